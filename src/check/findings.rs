//! What a check has found.

use uuid::Uuid;

/// Findings of one part that are told one by one; of the rest only the number.
const MOST: usize = 1000;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Pages of the index relation and the lists they form, the delta among them.
    Pages,
    /// The list of segments.
    Manifest,
    /// Bits of removed entries.
    Tombstones,
    /// Whose the folders in the store are.
    Owner,
    /// Objects of segments.
    Objects,
    /// The graph, in the store and in shared memory.
    Graph,
    /// Entries of the index against rows of the table.
    Heap,
    /// Stored vectors.
    Vectors,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Pages,
        Self::Manifest,
        Self::Tombstones,
        Self::Owner,
        Self::Objects,
        Self::Graph,
        Self::Heap,
        Self::Vectors,
    ];

    /// The name users see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Manifest => "manifest",
            Self::Tombstones => "tombstones",
            Self::Owner => "owner",
            Self::Objects => "objects",
            Self::Graph => "graph",
            Self::Heap => "heap",
            Self::Vectors => "vectors",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub part: Part,
    /// The segment, when it is about one.
    pub segment: Option<Uuid>,
    /// Where it is: a block of the index, an object, a row of the table.
    pub place: String,
    /// What is wrong, in words.
    pub problem: String,
}

/// Everything that is wrong, as far as it can be listed.
#[derive(Debug, Default)]
pub struct Findings {
    all: Vec<Finding>,
    /// How many there are of each part, listed or not.
    counts: [u64; Part::ALL.len()],
}

impl Findings {
    /// Adds one.
    pub fn add(
        &mut self,
        part: Part,
        segment: Option<Uuid>,
        place: impl Into<String>,
        problem: impl Into<String>,
    ) {
        self.push(Finding { part, segment, place: place.into(), problem: problem.into() });
    }

    /// Adds one, unless it is known: an object may be read more than once.
    pub fn push(&mut self, finding: Finding) {
        if self.all.contains(&finding) {
            return;
        }
        let count = &mut self.counts[finding.part as usize];
        *count += 1;
        if *count <= MOST as u64 {
            self.all.push(finding);
        }
    }

    /// Adds those that another part of the check has found.
    pub fn append(&mut self, more: Vec<Finding>) {
        more.into_iter().for_each(|finding| self.push(finding));
    }

    /// All of them; where there are too many of one part, the last one says how many are left out.
    pub fn finish(mut self) -> Vec<Finding> {
        for part in Part::ALL {
            let left_out = self.counts[part as usize].saturating_sub(MOST as u64);
            if left_out > 0 {
                self.all.push(Finding {
                    part,
                    segment: None,
                    place: "more".to_owned(),
                    problem: format!("{left_out} more findings of this part are not listed"),
                });
            }
        }
        self.all
    }
}
