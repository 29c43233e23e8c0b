//! Joins in a whole process: over topics of their own, several partitions, kills and restores.

use std::sync::Arc;
use std::time::Duration;

use headwater::config::StreamsConfig;
use headwater::dsl::{
    Consumed, ForeignKeyJoined, JoinWindows, Joined, Materialized, Produced, StreamJoined,
    StreamsBuilder,
};
use headwater::serde::kafka_streams::partition_for;
use headwater::serde::serdes::{i64, optional, string};
use headwater::topology::Topology;

use super::world::{Ground, Output, World};

fn start(ground: Ground, topology: &Arc<Topology>) -> World {
    let mut world = World::start(ground, StreamsConfig::new("joins"), Arc::clone(topology));
    world.until_running();
    world
}

fn grounds() -> [Ground; 2] {
    [Ground::held(), Ground::unheld()]
}

/// Visits with the length of the visitor's name, from a table that every task has whole.
fn visits() -> Arc<Topology> {
    let b = StreamsBuilder::new();
    let names = b.global_table("names", string(), Materialized::with("names-store", string()));
    b.stream("visits", Consumed::with(string(), string()))
        .join_global(
            &names,
            |_, visitor| Some(visitor.clone()),
            |_, _, name| i64::try_from(name.len()).expect("short"),
            Joined::with("visits-names", string(), string()),
        )
        .to("out", Produced::with(string(), i64()));
    b.build().expect("it is sound")
}

#[test]
fn a_global_table_is_whole_before_the_first_record_is_joined_and_survives_a_kill() {
    for ground in grounds() {
        let topology = visits();
        let mut world = start(ground, &topology);
        world.append("names", 0, &[("1", "ada", 1), ("2", "grace", 2)]);
        world.append("names", 1, &[("3", "barbara", 3)]);
        for visits in [1, 2] {
            // Restored from the topic at first, from disk and the topic afterwards.
            let ground = world.kill(usize::MAX);
            world = start(ground, &topology);
            world.append("visits", 0, &[("a", "1", 10), ("b", "3", 11), ("c", "nobody", 12)]);
            world.append("visits", 1, &[("d", "2", 10)]);
            world.until("joined", |w| w.outputs("out").len() == 3 * visits);
        }
        let lengths: Vec<_> = world.outputs("out").into_iter().map(|(_, n, _)| n).collect();
        let sum: i64 = lengths.into_iter().flatten().sum();
        assert_eq!(sum, 2 * (3 + 7 + 5));
        let stores = world.streams.board().stores();
        assert!(stores.iter().any(|name| **name == *"names-store"), "it can be asked: {stores:?}");
    }
}

#[test]
fn a_global_table_follows_its_topic_while_tasks_run() {
    let topology = visits();
    let mut world = start(Ground::held(), &topology);
    let mut time = 0;
    let mut visit_until = |world: &mut World, length: i64| {
        for _ in 0..100 {
            time += 1;
            world.append("visits", 0, &[("a", "1", time)]);
            (0..20).for_each(|_| world.round());
            if world.last_outputs("out").get("a") == Some(&length) {
                return;
            }
        }
        panic!("the table never had a name of {length} letters");
    };
    world.append("names", 1, &[("1", "ada", 1)]);
    visit_until(&mut world, 3);
    world.append("names", 1, &[("1", "grace", 2)]);
    visit_until(&mut world, 5);
}

/// The year of each track's album, plus one thousand times the length of the album's name.
fn tracks() -> Arc<Topology> {
    let b = StreamsBuilder::new();
    let tracks = b.table("tracks", Consumed::with(string(), string()));
    let albums = b.table("albums", Consumed::with(string(), string()));
    tracks
        .foreign_key_join(
            albums,
            |_, album| Some(album.clone()),
            |album, year| {
                let year: i64 = year.parse().expect("a year");
                i64::try_from(album.len()).expect("short") * 10_000 + year
            },
            ForeignKeyJoined::with("by-album", string(), string(), i64()),
        )
        .materialized(Materialized::with("years", i64()))
        .to_stream()
        .to("out", Produced::with(string(), optional(i64())));
    b.build().expect("it is sound")
}

/// Each record into the partition that is its key's.
fn put(world: &mut World, topic: &str, records: &[(&str, &str, i64)]) {
    for record in records {
        world.append(topic, partition_for(record.0.as_bytes(), 2), &[*record]);
    }
}

#[test]
fn a_foreign_key_join_ends_right_wherever_it_is_killed() {
    let topology = tracks();
    for (at, ground) in (0..24).flat_map(|at| grounds().map(|ground| (at * 9, ground))) {
        let mut world = start(ground, &topology);
        put(&mut world, "tracks", &[("t1", "a", 1), ("t2", "a", 2), ("t3", "bb", 3)]);
        put(&mut world, "albums", &[("a", "1990", 4), ("bb", "1991", 5)]);
        (0..at).for_each(|_| world.round());
        let mut world = start(world.kill(usize::MAX), &topology);
        put(&mut world, "albums", &[("a", "1999", 6)]);
        put(&mut world, "tracks", &[("t2", "bb", 7)]);
        let expected = [("t1", 11_999), ("t2", 21_991), ("t3", 21_991)];
        let expected = expected.map(|(key, value)| (key.to_owned(), value));
        world.until("joined", |w| w.last_outputs("out").into_iter().eq(expected.clone()));
    }
}

#[test]
fn a_left_join_of_streams_says_each_result_once_wherever_it_is_killed() {
    let b = StreamsBuilder::new();
    let orders = b.stream("orders", Consumed::with(string(), string()));
    let payments = b.stream("payments", Consumed::with(string(), string()));
    let number = |text: &str| text.parse::<i64>().expect("a number");
    orders
        .left_join_stream(
            payments,
            move |_, due, paid| number(due) - paid.map_or(0, |paid| number(paid)),
            JoinWindows::of(Duration::from_millis(10), Duration::ZERO),
            StreamJoined::with("orders-payments", string(), string(), string()),
        )
        .to("out", Produced::with(string(), i64()));
    let topology = b.build().expect("it is sound");
    for (at, ground) in (0..24).flat_map(|at| grounds().map(|ground| (at * 5, ground))) {
        let mut world = start(ground, &topology);
        let open = [("a", "5", 1_000), ("b", "7", 1_000), ("b", "8", 1_000)];
        world.append("orders", 0, &open);
        world.append("payments", 0, &[("a", "2", 1_003)]);
        (0..at).for_each(|_| world.round());
        let mut world = start(world.kill(usize::MAX), &topology);
        world.until("paid", |w| !w.outputs("out").is_empty());
        world.append("orders", 0, &[("z", "1", 50_000)]);
        world.until("closed", |w| w.outputs("out").len() >= 3);
        let result = |key: &str, n: i64, time: i64| -> Output { (key.to_owned(), Some(n), time) };
        let expected = [result("a", 3, 1_003), result("b", 7, 1_000), result("b", 8, 1_000)];
        let mut seen = world.outputs("out");
        seen.sort();
        assert_eq!(seen, expected, "killed after {at} rounds");
    }
}
