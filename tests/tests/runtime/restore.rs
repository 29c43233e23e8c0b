//! Restores from changelogs: after kills, after a lost state directory, while others run.

use headwater::log::{Log, OffsetQuery};
use headwater::record::TopicPartition;
use headwater::runtime::StreamsState;

use super::embedded::{LINES, is_counted, start};
use super::world::{Ground, World};

#[test]
fn killed_after_any_number_of_rounds_the_changelog_gives_the_state_back() {
    for rounds in (0..240).step_by(5) {
        let mut world = start(Ground::unheld(), 2);
        world.append("lines", 0, LINES);
        for _ in 0..rounds {
            world.round();
        }
        let mut world = start(world.kill(rounds % 3), 2);
        world.until("counted", is_counted);
        let outputs = world.outputs("word-counts");
        assert_eq!(outputs.len(), 10, "killed after {rounds} rounds: {outputs:?}");
    }
}

fn restored(world: &World) -> u64 {
    let tasks = world.streams.board().tasks();
    tasks.values().flat_map(|task| task.restores.values()).map(|r| r.records).sum()
}

fn is_counted_on(world: &World) -> bool {
    world.last_outputs("word-counts").get("to") == Some(&3)
}

#[test]
fn counts_go_on_where_they_were_after_the_state_directory_was_lost() {
    let mut world = start(Ground::unheld(), 1);
    world.append("lines", 0, LINES);
    world.until("counted", is_counted);
    let mut world = start(world.kill(0), 1);
    world.append("lines", 1, &[("3", "to be", 3_000)]);
    world.until("counted on", is_counted_on);
    assert_eq!(restored(&world), 8, "one record per word, as they were committed together");
}

#[test]
fn nothing_is_restored_when_the_state_is_as_far_as_its_changelog() {
    let mut world = start(Ground::unheld(), 1);
    world.append("lines", 0, LINES);
    world.until("counted", is_counted);
    world.streams.stop();
    world.until("stopped", |w| w.streams.state() == StreamsState::NotRunning);
    let mut world = start(world.kill(usize::MAX), 1);
    world.append("lines", 1, &[("3", "to be", 3_000)]);
    world.until("counted on", is_counted_on);
    assert_eq!(restored(&world), 0);
}

#[test]
fn a_store_whose_position_left_the_changelog_is_emptied_and_restored_from_its_start() {
    let mut world = start(Ground::unheld(), 1);
    world.append("lines", 0, LINES);
    world.until("counted", is_counted);
    world.round();
    let early = world.ground.state.as_ref().expect("a disk of its own").unsynced();
    world.append("lines", 0, &[("4", "to", 4_000)]);
    world.until("counted on", is_counted_on);
    for partition in 0..2 {
        let changelog = TopicPartition::new("wc-counts-changelog", partition);
        let end = world.log.offsets(vec![changelog.clone()], OffsetQuery::HighWatermark);
        let end = world.answer(&end)[0];
        let cut = world.log.delete_records(vec![(changelog, end)]);
        world.answer(&cut);
    }
    // The state falls back to before the cut: what it lacks is gone for good.
    let mut world = start(world.kill(early), 1);
    world.append("lines", 0, &[("5", "to", 5_000)]);
    world.until("counted anew", |w| w.last_outputs("word-counts").get("to") == Some(&1));
}
