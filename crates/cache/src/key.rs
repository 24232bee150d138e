//! Names of inner chunks.

use uuid::Uuid;

/// Names an inner chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkKey {
    /// The segment.
    pub segment: Uuid,
    /// Number of the inner chunk in the segment.
    pub chunk: u32,
}

impl ChunkKey {
    /// A hash whose bits are all equally good. Uuids are random, so mixing the chunk's number in
    /// (the finaliser of SplitMix64) is enough.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let (high, low) = self.segment.as_u64_pair();
        let mut x = high ^ low ^ u64::from(self.chunk).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
}
