//! The fast Walsh–Hadamard transform.

/// Coordinates transformed together in registers before the passes over memory begin.
const TILE: usize = 16;

/// Transforms `values` in place, without scaling: every output is a signed sum of all inputs.
///
/// The length must be a power of two of at least [`TILE`]; the rest of another length stays as
/// it is.
#[inline(always)]
pub(crate) fn transform(values: &mut [f32]) {
    let (tiles, _) = values.as_chunks_mut::<TILE>();
    for tile in tiles {
        pass::<1>(tile);
        pass::<2>(tile);
        pass::<4>(tile);
        pass::<8>(tile);
    }
    let mut half = TILE;
    // Two passes at a time touch memory half as often.
    while 4 * half <= values.len() {
        for block in values.chunks_exact_mut(4 * half) {
            let (left, right) = block.split_at_mut(2 * half);
            let (a, b) = left.split_at_mut(half);
            let (c, d) = right.split_at_mut(half);
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let (ab, a_b, cd, c_d) = (*a + *b, *a - *b, *c + *d, *c - *d);
                (*a, *b, *c, *d) = (ab + cd, a_b + c_d, ab - cd, a_b - c_d);
            }
        }
        half *= 4;
    }
    if 2 * half <= values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (left, right) = block.split_at_mut(half);
            for (x, y) in left.iter_mut().zip(right) {
                (*x, *y) = (*x + *y, *x - *y);
            }
        }
    }
}

/// One pass over a tile: butterflies of coordinates `HALF` apart.
#[inline(always)]
fn pass<const HALF: usize>(tile: &mut [f32; TILE]) {
    let from = *tile;
    for (i, value) in tile.iter_mut().enumerate() {
        let partner = from[i ^ HALF];
        *value = if i & HALF == 0 { from[i] + partner } else { partner - from[i] };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_output_is_the_signed_sum_of_all_inputs() {
        for size in [16, 32, 64, 128, 256] {
            let input: Vec<f32> = (0..size).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let mut output = input.clone();
            transform(&mut output);
            for (row, value) in output.iter().enumerate() {
                let expected: f32 = input
                    .iter()
                    .enumerate()
                    .map(|(i, x)| if (row & i).count_ones() % 2 == 0 { *x } else { -x })
                    .sum();
                assert_eq!(*value, expected, "size {size}, output {row}");
            }
        }
    }
}
