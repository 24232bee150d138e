//! One table of kernels for each instruction set, and the choice among them at run time.

use std::sync::LazyLock;

use half::f16;

use crate::plain;

/// An instruction set that kernels exist for.
///
/// Ordered from the slowest to the fastest; which of them a machine has is asked at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No intrinsics: always there.
    Plain,
    /// ARM's 128-bit vectors, part of every 64-bit ARM.
    Neon,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 with F, BW, VL and VNNI: every server generation since Ice Lake and Zen 4.
    Avx512,
}

impl Level {
    /// Whether this machine can run kernels of this level.
    pub fn is_available(self) -> bool {
        match self {
            Self::Plain => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[allow(unreachable_patterns, reason = "levels of other architectures")]
            _ => false,
        }
    }

    /// The fastest level this machine has.
    pub fn best() -> Self {
        static BEST: LazyLock<Level> = LazyLock::new(|| {
            [Level::Avx512, Level::Avx2, Level::Neon]
                .into_iter()
                .find(|level| level.is_available())
                .unwrap_or(Level::Plain)
        });
        *BEST
    }

    /// Every level this machine has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Plain, Self::Neon, Self::Avx2, Self::Avx512]
            .into_iter()
            .filter(|level| level.is_available())
    }
}

/// The kernels for rows of one element type. All three take slices of equal length.
pub struct Table<R> {
    dot: unsafe fn(&[f32], &[R]) -> f32,
    l2_squared: unsafe fn(&[f32], &[R]) -> f32,
    dot_and_norm: unsafe fn(&[f32], &[R]) -> (f32, f32),
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
}

/// An element type a row may have: `f32` or [`struct@f16`]. Sealed, because each needs its kernels.
pub trait Element: Copy + Default + sealed::Sealed + 'static {
    /// The element in single precision, exactly.
    fn to_f32(self) -> f32;

    /// The kernels for rows of this type.
    #[doc(hidden)]
    fn table(kernels: &Kernels) -> &Table<Self>;
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    fn table(kernels: &Kernels) -> &Table<Self> {
        &kernels.single
    }
}

impl Element for f16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    fn table(kernels: &Kernels) -> &Table<Self> {
        &kernels.half
    }
}

/// The kernels of one [`Level`]. A value exists only for levels this machine has.
pub struct Kernels {
    level: Level,
    single: Table<f32>,
    half: Table<f16>,
}

/// Builds the [`Kernels`] of the module `$module`.
macro_rules! kernels {
    ($level:expr, $module:ident) => {
        Kernels {
            level: $level,
            single: Table {
                dot: $module::dot::<f32>,
                l2_squared: $module::l2_squared::<f32>,
                dot_and_norm: $module::dot_and_norm::<f32>,
            },
            half: Table {
                dot: $module::dot::<f16>,
                l2_squared: $module::l2_squared::<f16>,
                dot_and_norm: $module::dot_and_norm::<f16>,
            },
        }
    };
}

static PLAIN: Kernels = kernels!(Level::Plain, plain);
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};
#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = kernels!(Level::Avx2, avx2);
#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = kernels!(Level::Avx512, avx512);
#[cfg(target_arch = "aarch64")]
use crate::neon;
#[cfg(target_arch = "aarch64")]
static NEON: Kernels = kernels!(Level::Neon, neon);

impl Kernels {
    /// The kernels of `level`, or `None` if this machine lacks the instructions.
    pub fn of(level: Level) -> Option<&'static Self> {
        if !level.is_available() {
            return None;
        }
        match level {
            Level::Plain => Some(&PLAIN),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Some(&AVX2),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Some(&AVX512),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => Some(&NEON),
            #[allow(unreachable_patterns, reason = "levels of other architectures")]
            _ => None,
        }
    }

    /// The fastest kernels of this machine, chosen once.
    pub fn best() -> &'static Self {
        static BEST: LazyLock<&'static Kernels> =
            LazyLock::new(|| Kernels::of(Level::best()).unwrap_or(&PLAIN));
        *BEST
    }

    /// The level these kernels are of.
    pub fn level(&self) -> Level {
        self.level
    }

    /// `sum(a * b)`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn dot<R: Element>(&self, a: &[f32], b: &[R]) -> f32 {
        assert_eq!(a.len(), b.len(), "vectors of different dimensions");
        // SAFETY: `of` hands out only tables whose instructions this machine has.
        unsafe { (R::table(self).dot)(a, b) }
    }

    /// `sum((a - b)^2)`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn l2_squared<R: Element>(&self, a: &[f32], b: &[R]) -> f32 {
        assert_eq!(a.len(), b.len(), "vectors of different dimensions");
        // SAFETY: `of` hands out only tables whose instructions this machine has.
        unsafe { (R::table(self).l2_squared)(a, b) }
    }

    /// `(sum(a * b), sum(b * b))`: what cosine needs of a row `b` in one pass.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn dot_and_norm<R: Element>(&self, a: &[f32], b: &[R]) -> (f32, f32) {
        assert_eq!(a.len(), b.len(), "vectors of different dimensions");
        // SAFETY: `of` hands out only tables whose instructions this machine has.
        unsafe { (R::table(self).dot_and_norm)(a, b) }
    }
}

/// [`Kernels::dot`] of the fastest kernels.
pub fn dot<R: Element>(a: &[f32], b: &[R]) -> f32 {
    Kernels::best().dot(a, b)
}

/// [`Kernels::l2_squared`] of the fastest kernels.
pub fn l2_squared<R: Element>(a: &[f32], b: &[R]) -> f32 {
    Kernels::best().l2_squared(a, b)
}

/// [`Kernels::dot_and_norm`] of the fastest kernels.
pub fn dot_and_norm<R: Element>(a: &[f32], b: &[R]) -> (f32, f32) {
    Kernels::best().dot_and_norm(a, b)
}
