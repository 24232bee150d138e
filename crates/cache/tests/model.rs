//! The cache beside a model: a map of what was put in last.

// Not every test uses all of it.
#[allow(dead_code)]
mod common;

use std::collections::HashMap;

use cache::{FRAME, MAX_CHUNK};
use common::{Mapped, content, key};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Insert { chunk: u32, length: usize },
    Read { chunk: u32, offset: usize, length: usize },
    Get { chunk: u32 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let chunk = 0..60u32;
    let length = prop_oneof![
        5 => 0..4 * FRAME,
        1 => Just(FRAME),
        1 => Just(3 * FRAME),
        1 => MAX_CHUNK - 2..MAX_CHUNK + 2,
    ];
    let offset = prop_oneof![0..4 * FRAME, Just(usize::MAX)];
    let step = prop_oneof![
        4 => (chunk.clone(), length.clone()).prop_map(|(chunk, length)| Step::Insert { chunk, length }),
        3 => (chunk.clone(), offset, length)
            .prop_map(|(chunk, offset, length)| Step::Read { chunk, offset, length }),
        1 => chunk.prop_map(|chunk| Step::Get { chunk }),
    ];
    prop::collection::vec(step, 1..300)
}

fn frames(bytes: usize) -> usize {
    bytes.div_ceil(FRAME)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn behaves_like_a_map_that_forgets(
        room in prop_oneof![Just(1), Just(3), 4..60usize, Just(2 * 16 * 16)],
        steps in steps(),
    ) {
        let mapped = Mapped::new(room * FRAME);
        let cache = mapped.cache;
        let mut model: HashMap<u32, Vec<u8>> = HashMap::new();
        let mut scratch = Vec::new();
        let mut evictions = 0;
        for (edition, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert { chunk, length } => {
                    let bytes = content(chunk, edition as u32, length);
                    let used: usize = model.values().map(|held| frames(held.len())).sum();
                    let known = model.contains_key(&chunk);
                    cache.insert(&key(chunk), &bytes);
                    let fits = (1..=MAX_CHUNK).contains(&length) && frames(length) <= room;
                    prop_assert_eq!(cache.contains(&key(chunk)), known || fits);
                    let before = model.len();
                    model.retain(|&chunk, _| cache.contains(&key(chunk)));
                    if known || !fits || used + frames(length) <= room {
                        prop_assert_eq!(model.len(), before, "dropped without need");
                    }
                    evictions += before - model.len();
                    if fits && !known {
                        model.insert(chunk, bytes);
                    }
                }
                Step::Read { chunk, offset, length } => {
                    let read =
                        cache.read(&key(chunk), offset, length, &mut scratch, <[u8]>::to_vec);
                    let end = offset.checked_add(length);
                    let part = |held: &Vec<u8>| Some(held.get(offset..end?)?.to_vec());
                    prop_assert_eq!(read, model.get(&chunk).and_then(part));
                }
                Step::Get { chunk } => {
                    prop_assert_eq!(cache.get(&key(chunk)), model.get(&chunk).cloned());
                }
            }
            let usage = cache.usage();
            prop_assert_eq!(usage.capacity, (room * FRAME) as u64);
            prop_assert_eq!(usage.used, model.values().map(Vec::len).sum::<usize>() as u64);
            prop_assert_eq!(usage.chunks, model.len() as u64);
            prop_assert_eq!(usage.evictions, evictions as u64);
            let used: usize = model.values().map(|held| frames(held.len())).sum();
            prop_assert!(used <= room);
        }
        for (&chunk, bytes) in &model {
            prop_assert_eq!(cache.get(&key(chunk)), Some(bytes.clone()));
        }
    }
}
