//! The overlay against a model: maps that are cloned where the overlay is clever.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::database::Cursor;
use crate::error::Result;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// The database below, as a cursor with a prefix of one byte.
struct MapCursor {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    next: usize,
}

impl MapCursor {
    fn new(map: &Map, range: &ScanRange, direction: Direction) -> Self {
        let rows = map.iter().filter(|(key, _)| range.contains(key));
        let mut rows: Vec<_> =
            rows.map(|(key, value)| ([b"p", key.as_slice()].concat(), value.clone())).collect();
        if direction == Direction::Backward {
            rows.reverse();
        }
        Self { rows, next: 0 }
    }
}

impl Cursor for MapCursor {
    fn advance(&mut self) -> Result<bool> {
        self.next += 1;
        Ok(self.next <= self.rows.len())
    }

    fn key(&self) -> &[u8] {
        &self.rows[self.next - 1].0
    }

    fn value(&self) -> &[u8] {
        &self.rows[self.next - 1].1
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
    Savepoint,
    Undo,
    Freeze,
    Release,
    Discard,
}

/// What the overlay must look like: everything visible, and what a freeze would hand over.
#[derive(Debug, Clone, Default)]
struct Model {
    database: Map,
    visible: Map,
    dirty: Vec<Vec<u8>>,
    frozen: Option<Map>,
    saved: Option<(Map, Vec<Vec<u8>>)>,
}

impl Model {
    fn touch(&mut self, key: &[u8]) {
        self.dirty.retain(|dirty| dirty != key);
        self.dirty.push(key.to_vec());
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(key, value) => {
                self.visible.insert(key.clone(), value.clone());
                self.touch(key);
            }
            Step::Delete(key) => {
                self.visible.remove(key);
                self.touch(key);
            }
            Step::DeleteRange(from, to) => {
                let hit = |key: &Vec<u8>| key >= from && key < to;
                self.visible.retain(|key, _| !hit(key));
                let mut dirty: Vec<_> = self.dirty.iter().filter(|key| hit(key)).cloned().collect();
                dirty.sort();
                dirty.iter().for_each(|key| self.touch(key));
            }
            Step::Savepoint => self.saved = Some((self.visible.clone(), self.dirty.clone())),
            Step::Undo => {
                if let Some((visible, dirty)) = self.saved.clone() {
                    self.visible = visible;
                    self.dirty = dirty;
                }
            }
            Step::Freeze if self.frozen.is_none() => {
                self.frozen = Some(self.visible.clone());
                self.dirty.clear();
                self.saved = None;
            }
            Step::Freeze => {}
            Step::Release => {
                if let Some(committed) = self.frozen.take() {
                    self.database = committed;
                }
            }
            Step::Discard => {
                let database = std::mem::take(&mut self.database);
                *self = Self { visible: database.clone(), database, ..Self::default() };
            }
        }
    }
}

fn apply(frozen: &FrozenOverlay, database: &mut Map) {
    for (from, to) in frozen.ranges() {
        database.retain(|key, _| key.as_slice() < from || key.as_slice() >= to);
    }
    for (key, value) in frozen.in_key_order() {
        match value {
            Some(value) => database.insert(key.to_vec(), value.to_vec()),
            None => database.remove(key),
        };
    }
}

fn scan(
    overlay: &Overlay,
    database: &Map,
    range: &ScanRange,
    direction: Direction,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let base = Box::new(MapCursor::new(database, range, direction));
    let mut cursor = overlay.merge(range, direction, base, 1);
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.next().expect("a map does not fail") {
        rows.push((key.to_vec(), value.to_vec()));
    }
    rows
}

fn check(overlay: &Overlay, model: &Model, range: &ScanRange) {
    let mut expected: Vec<_> = model
        .visible
        .iter()
        .filter(|(key, _)| range.contains(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    assert_eq!(scan(overlay, &model.database, range, Direction::Forward), expected);
    expected.reverse();
    assert_eq!(scan(overlay, &model.database, range, Direction::Backward), expected);
    for key in (0..=5u8).flat_map(|a| [vec![a], vec![a, a]]) {
        let read = match overlay.get(&key) {
            Found::Value(value) => Some(value.to_vec()),
            Found::Deleted => None,
            Found::Unknown => model.database.get(&key).cloned(),
        };
        assert_eq!(read.as_ref(), model.visible.get(&key));
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..6u8).prop_map(|a| vec![a]),
        (0..6u8, 0..6u8).prop_map(|(a, b)| vec![a, b]),
        Just(Vec::new()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (key(), prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(k, v)| Step::Put(k, v)),
        3 => key().prop_map(Step::Delete),
        2 => (key(), key()).prop_map(|(from, to)| Step::DeleteRange(from, to)),
        2 => Just(Step::Savepoint),
        2 => Just(Step::Undo),
        1 => Just(Step::Freeze),
        1 => Just(Step::Release),
        1 => Just(Step::Discard),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn an_overlay_reads_scans_freezes_and_undoes_like_plain_maps(
        steps in prop::collection::vec(step(), 0..60),
        from in key(),
        to in prop::option::of(key()),
        database in prop::collection::btree_map(key(), prop::collection::vec(any::<u8>(), 0..4), 0..12),
    ) {
        let mut model = Model { visible: database.clone(), database, ..Model::default() };
        let mut overlay = Overlay::new();
        let range = ScanRange { from, to };
        for step in steps {
            match &step {
                Step::Put(key, value) => overlay.put(key, value),
                Step::Delete(key) => overlay.delete(key),
                Step::DeleteRange(from, to) => overlay.delete_range(from, to),
                Step::Savepoint => overlay.savepoint(),
                Step::Undo => overlay.undo(),
                Step::Freeze if overlay.frozen().is_none() => {
                    let frozen = overlay.freeze();
                    let order: Vec<_> = frozen.in_touch_order().map(|(key, _)| key.to_vec()).collect();
                    prop_assert_eq!(&order, &model.dirty);
                    let mut committed = model.database.clone();
                    apply(&frozen, &mut committed);
                    prop_assert_eq!(&committed, &model.visible);
                }
                Step::Freeze => {}
                Step::Release => overlay.release_frozen(),
                Step::Discard => overlay.discard(),
            }
            model.step(&step);
            check(&overlay, &model, &range);
            check(&overlay, &model, &ScanRange::all());
        }
        overlay.discard();
        prop_assert_eq!(overlay.bytes(), 0);
    }

    #[test]
    fn undo_gives_back_every_byte_that_was_counted(
        before in prop::collection::vec(step(), 0..20),
        after in prop::collection::vec(step(), 0..20),
    ) {
        let mut overlay = Overlay::new();
        let write = |overlay: &mut Overlay, step: &Step| match step {
            Step::Put(key, value) => overlay.put(key, value),
            Step::Delete(key) => overlay.delete(key),
            Step::DeleteRange(from, to) => overlay.delete_range(from, to),
            _ => {}
        };
        before.iter().for_each(|step| write(&mut overlay, step));
        let (bytes, len) = (overlay.bytes(), overlay.len());
        overlay.savepoint();
        after.iter().for_each(|step| write(&mut overlay, step));
        overlay.undo();
        prop_assert_eq!(overlay.bytes(), bytes);
        prop_assert_eq!(overlay.len(), len);
    }
}
