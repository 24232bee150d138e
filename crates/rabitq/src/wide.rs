//! Runs ordinary loops with the widest vectors the machine has.
//!
//! Loops over floats that need no intrinsics are compiled once for each instruction set and
//! chosen at run time. They compute the same bits everywhere: the compiler neither reorders
//! float sums nor fuses multiplications into them.

use distance::Level;

/// A piece of work whose body is inlined into each instruction set's version.
pub(crate) trait Work {
    /// What the work yields.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`, and so is all they call: only then does
    /// the instruction set of the caller reach the loops.
    fn run(self) -> Self::Output;
}

/// Runs `work` with the widest vectors of this machine.
#[inline]
pub(crate) fn run<W: Work>(work: W) -> W::Output {
    run_at(Level::best(), work)
}

/// Runs `work` with the vectors of `level`, or plainly if this machine lacks them.
#[inline]
pub(crate) fn run_at<W: Work>(level: Level, work: W) -> W::Output {
    match level {
        // SAFETY: levels up to the best one are those this machine has.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if level <= Level::best() => unsafe { avx512(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 if level <= Level::best() => unsafe { avx2(work) },
        _ => work.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn avx512<W: Work>(work: W) -> W::Output {
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<W: Work>(work: W) -> W::Output {
    work.run()
}
