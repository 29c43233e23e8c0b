//! The merged scan: active layer over frozen layer over database, in either direction.
//!
//! Owns the merge order: equal keys are one row, the upper source decides, and what is deleted above
//! hides what is below. Must not know how the database is keyed beyond the length of the prefix.

use std::cmp::Ordering;
use std::collections::btree_map;

use bytes::Bytes;

use super::{Layer, Slot, index};
use crate::database::{Cursor, Direction, ScanRange};
use crate::error::Result;

/// Where the current row, or the next candidate, comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Active,
    Frozen,
    Base,
}

struct Side<'a> {
    layer: &'a Layer,
    rest: btree_map::Range<'a, Bytes, u32>,
    head: Option<&'a Slot>,
}

impl<'a> Side<'a> {
    fn new(layer: &'a Layer, range: &ScanRange, direction: Direction) -> Self {
        let mut side = Self { layer, rest: layer.entries(range), head: None };
        side.step(direction);
        side
    }

    fn step(&mut self, direction: Direction) {
        let next = match direction {
            Direction::Forward => self.rest.next(),
            Direction::Backward => self.rest.next_back(),
        };
        self.head = next.map(|(_, slot)| &self.layer.slots[index(*slot)]);
    }
}

/// See the module's page.
pub(crate) struct MergeCursor<'a> {
    active: Side<'a>,
    frozen: Option<Side<'a>>,
    base: Box<dyn Cursor + 'a>,
    /// Whether `base` stands on a row that was not passed yet; `None` before the first step.
    base_head: Option<bool>,
    prefix_bytes: usize,
    direction: Direction,
    current: Option<From>,
}

impl<'a> MergeCursor<'a> {
    pub(super) fn new(
        active: &'a Layer,
        frozen: Option<&'a Layer>,
        range: &ScanRange,
        direction: Direction,
        base: Box<dyn Cursor + 'a>,
        prefix_bytes: usize,
    ) -> Self {
        Self {
            active: Side::new(active, range, direction),
            frozen: frozen.map(|layer| Side::new(layer, range, direction)),
            base,
            base_head: None,
            prefix_bytes,
            direction,
            current: None,
        }
    }

    fn head(&self, from: From) -> Option<&[u8]> {
        match from {
            From::Active => self.active.head.map(|slot| &slot.key[..]),
            From::Frozen => self.frozen.as_ref()?.head.map(|slot| &slot.key[..]),
            From::Base if self.base_head == Some(true) => {
                Some(&self.base.key()[self.prefix_bytes..])
            }
            From::Base => None,
        }
    }

    /// The source of the next key; of equal keys, the upper one.
    fn first(&self) -> Option<From> {
        let mut first: Option<(From, &[u8])> = None;
        for from in [From::Active, From::Frozen, From::Base] {
            let Some(key) = self.head(from) else { continue };
            let wanted = match self.direction {
                Direction::Forward => Ordering::Less,
                Direction::Backward => Ordering::Greater,
            };
            if first.is_none_or(|(_, best)| key.cmp(best) == wanted) {
                first = Some((from, key));
            }
        }
        first.map(|(from, _)| from)
    }

    /// Passes the key `from` stands on, in every source.
    fn pass(&mut self, from: From) -> Result<()> {
        let below: &[From] = match from {
            From::Active => &[From::Frozen, From::Base],
            From::Frozen => &[From::Base],
            From::Base => &[],
        };
        for other in below {
            if self.head(*other).is_some() && self.head(*other) == self.head(from) {
                self.step(*other)?;
            }
        }
        self.step(from)
    }

    fn step(&mut self, from: From) -> Result<()> {
        match from {
            From::Active => self.active.step(self.direction),
            From::Frozen => {
                if let Some(frozen) = &mut self.frozen {
                    frozen.step(self.direction);
                }
            }
            From::Base => self.base_head = Some(self.base.advance()?),
        }
        Ok(())
    }

    /// Whether the row `from` stands on exists: not deleted by itself or by a range above it.
    fn is_live(&self, from: From) -> bool {
        let hidden = |layer: &Layer| self.head(from).is_some_and(|key| layer.deletes(key));
        let frozen = || self.frozen.as_ref();
        match from {
            From::Active => self.active.head.is_some_and(|slot| slot.live),
            From::Frozen => {
                frozen().and_then(|side| side.head).is_some_and(|slot| slot.live)
                    && !hidden(self.active.layer)
            }
            From::Base => {
                !hidden(self.active.layer) && !frozen().is_some_and(|side| hidden(side.layer))
            }
        }
    }
}

impl Cursor for MergeCursor<'_> {
    fn advance(&mut self) -> Result<bool> {
        if self.base_head.is_none() {
            self.step(From::Base)?;
        }
        if let Some(passed) = self.current.take() {
            self.pass(passed)?;
        }
        while let Some(from) = self.first() {
            if self.is_live(from) {
                self.current = Some(from);
                return Ok(true);
            }
            self.pass(from)?;
        }
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        let from = self.current.expect("a row is read only after advance returned true");
        self.head(from).expect("the current source stands on a row")
    }

    fn value(&self) -> &[u8] {
        let value = match self.current.expect("a row is read only after advance returned true") {
            From::Active => self.active.head.map(|slot| &slot.value[..]),
            From::Frozen => {
                self.frozen.as_ref().and_then(|side| side.head).map(|slot| &slot.value[..])
            }
            From::Base => Some(self.base.value()),
        };
        value.expect("the current source stands on a row")
    }
}
