//! Rows of several partitions in one order: by key bytes, and by partition where two have the same
//! key. Knows no store.

use std::ops::Bound;

use headwater_state::Result;
use headwater_state::database::{Cursor, Direction};
use headwater_state::store::{Committed, KeyValueReads};

use crate::serde::KeyRange;

/// The rows of one range of keys over some partitions, from the one after `after`.
pub(super) struct Merge<'a> {
    /// Those that have a current row.
    open: Vec<(u32, Box<dyn Cursor + 'a>)>,
    /// Which of them has the least.
    least: Option<usize>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        stores: &'a [Committed<'a>],
        range: &KeyRange,
        after: Option<&(Vec<u8>, u32)>,
    ) -> Result<Self> {
        let mut open = Vec::new();
        for store in stores {
            let start = range.from.as_deref().map_or(Bound::Unbounded, Bound::Included);
            let from = match after {
                // A cursor may be forged: no page begins before its range.
                Some((key, _)) if range.from.as_ref().is_some_and(|from| key < from) => start,
                Some((key, partition)) if store.partition > *partition => Bound::Included(&**key),
                Some((key, _)) => Bound::Excluded(&**key),
                None => start,
            };
            let to = range.to.as_deref().map_or(Bound::Unbounded, Bound::Included);
            if let (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to)) = (from, to)
                && from > to
            {
                continue;
            }
            let mut cursor = store.range(from, to, Direction::Forward)?;
            if cursor.advance()? {
                open.push((store.partition, cursor));
            }
        }
        let mut merge = Self { open, least: None };
        merge.find_least();
        Ok(merge)
    }

    /// Partition, key and value of the current row.
    pub(super) fn current(&self) -> Option<(u32, &[u8], &[u8])> {
        let (partition, cursor) = &self.open[self.least?];
        Some((*partition, cursor.key(), cursor.value()))
    }

    pub(super) fn advance(&mut self) -> Result<()> {
        if let Some(least) = self.least
            && !self.open[least].1.advance()?
        {
            self.open.remove(least);
        }
        self.find_least();
        Ok(())
    }

    fn find_least(&mut self) {
        let rows = self.open.iter().enumerate();
        self.least = rows.min_by_key(|(_, (p, cursor))| (cursor.key(), *p)).map(|(at, _)| at);
    }
}
