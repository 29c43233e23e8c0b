//! What a task does about records that the log refused in a transaction that was lost for it: the
//! record that causes one again fails, which is for the handler; what a flush or a punctuation writes
//! has no such cause and is dead-lettered itself. Knows no log.
//!
//! | refused | its cause | what happens |
//! |---|---|---|
//! | an output | the record that is processed | the record's failure: undone and dead-lettered, or as `on_error` says |
//! | a row's changelog record | the record that wrote the row | the same |
//! | an output of a cached table's flush, or of a punctuation | none alone | dead-lettered itself, under the topic of the task's first input; with `fail` the application stops |
//! | a row's changelog record that a punctuation wrote | none alone | the application stops |

use std::sync::Arc;

use bytes::Bytes;

use super::dead_letter::{self, Why, dead_letter_topic};
use super::{StreamTask, TaskError, changelog_topic, failed};
use crate::processor::drops::{DropReason, RefusedOutput};
use crate::processor::error::NodeError;
use crate::record::{Place, RecordPrint};

impl StreamTask {
    /// Remembers a record that the log refused, over rewinds. False if it was known.
    pub fn remember_refusal(&mut self, topic: &Arc<str>, print: RecordPrint, why: &str) -> bool {
        self.state.outbox.refusals.remember(topic, print, why)
    }

    /// No row that the record wrote has a changelog record that was refused.
    pub(super) fn check_rows(&self) -> Result<(), NodeError> {
        let refusals = &self.state.outbox.refusals;
        if refusals.is_empty() {
            return Ok(());
        }
        for (index, store) in self.state.stores.indexed() {
            let spec = &self.topology.stores()[index];
            let topic = changelog_topic(&self.settings.application_id, &spec.name);
            if !refusals.concern(&topic) {
                continue;
            }
            let format = spec.kind.changelog_format();
            for (key, row) in store.state().overlay().touched() {
                let Some(record) = format.record(key, row)? else { continue };
                let print = RecordPrint::of(Some(record.key), record.value);
                if let Some(why) = refusals.why(&topic, print) {
                    let store = &spec.name;
                    return Err(NodeError::message(format!(
                        "the changelog of store `{store}` refuses the row: {why}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Counts, logs and dead-letters the outputs that a flush or a punctuation wrote in vain.
    pub(super) fn settle_refused(&mut self) -> Result<(), TaskError> {
        for refused in std::mem::take(&mut self.state.refused) {
            let reason = DropReason::Refused.as_str();
            self.settings.metrics.dropped(reason, 1);
            let key = refused.key.as_deref().map(|key| key.escape_ascii().to_string());
            let (task, to, node, why) = (self.id, &refused.to, &*refused.node, &refused.why);
            tracing::error!(%task, %to, node, key, why, "output refused, dead-lettered by itself");
            self.dead_letter_output(&refused)?;
        }
        Ok(())
    }

    fn dead_letter_output(&mut self, refused: &RefusedOutput) -> Result<(), TaskError> {
        let input = self.inputs.first().expect("a task has an input");
        let topic = dead_letter_topic(
            &input.topic,
            &self.settings.application_id,
            self.settings.dead_letter_topic.as_deref(),
        );
        let partitions = self.settings.partition_counts.get(&topic).copied().unwrap_or(1);
        let reason = DropReason::Refused.as_str();
        // Where it was to go: it was never read from anywhere.
        let place = Place { partition: refused.to.clone(), offset: -1 };
        let why = Why { reason, node: &refused.node, message: &refused.why };
        let mut headers = dead_letter::headers(&refused.headers, &place, self.id, &why);
        self.add_headers(&refused.headers, &place, &why, &mut headers);
        let outbox = &mut self.state.outbox;
        let (lane, partition) = (outbox.topic(&topic), self.id.partition % partitions);
        let (time, key) = (refused.timestamp, refused.key.as_deref());
        let whole = outbox.append(lane, partition, time, key, refused.value.as_deref(), &headers);
        let bytes = refused.value.as_ref().map_or(0, Vec::len).to_string();
        headers.append("headwater.value-bytes", Some(Bytes::from(bytes)));
        let written = whole
            .or_else(|_| outbox.append(lane, partition, time, key, None, &headers))
            .or_else(|_| outbox.append(lane, partition, time, None, None, &headers));
        written.map_err(|error| failed(self.id, None, error.into()))?;
        self.settings.metrics.dead_letter(reason, 1);
        Ok(())
    }
}
