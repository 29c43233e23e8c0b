//! Joins, splits and what makes a table of a stream, in scenarios.

use headwater::dsl::{
    ForeignKeyJoined, JoinKind, JoinWindows, Joined, StreamJoined, TableJoined, Tabled,
};
use serde_json::Value as Json;

use super::NoAnswer;
use super::functions;
use super::nodes::{Node, Nodes, Stream, Table, ms, text, unsupported};
use super::values::{Key, ScenarioKey, Val, val};

fn key_text(key: &Key) -> String {
    key.text().unwrap_or_else(|| "null".into())
}

fn kind(node: &Json) -> Result<JoinKind, NoAnswer> {
    Ok(match text(node, "kind")? {
        "inner" => JoinKind::Inner,
        "left" => JoinKind::Left,
        "outer" => JoinKind::Outer,
        _ => return unsupported(node),
    })
}

/// A row, or null where there is none.
fn or_null(row: Option<&Val>) -> &Val {
    row.unwrap_or(&Val::Null)
}

impl<'b> Nodes<'b> {
    pub(super) fn stream_table_join(&mut self, node: &Json) -> Result<Node<'b>, NoAnswer> {
        let name = self.unnamed("join");
        let joiner = functions::joiner(&node["joiner"])?;
        let (Node::Stream(left), Node::Table(right)) =
            (self.get(node, "left")?, self.get(node, "right")?)
        else {
            return unsupported(node);
        };
        let joined = Joined::with(&name, Key::serde(), val());
        let joined = match node["grace_ms"].is_null() {
            true => joined,
            false => joined.grace(ms(node, "grace_ms")?),
        };
        Ok(Node::Stream(match kind(node)? {
            JoinKind::Inner => left.join(*right, move |k, l, r| joiner(&key_text(k), l, r), joined),
            JoinKind::Left => {
                let join =
                    move |k: &Key, l: &Val, r: Option<&Val>| joiner(&key_text(k), l, or_null(r));
                left.left_join(*right, join, joined)
            }
            JoinKind::Outer => return unsupported(node),
        }))
    }

    pub(super) fn stream_stream_join(&mut self, node: &Json) -> Result<Node<'b>, NoAnswer> {
        let name = self.unnamed("join");
        let joiner = functions::joiner(&node["joiner"])?;
        let (Node::Stream(left), Node::Stream(right)) =
            (self.get(node, "left")?, self.get(node, "right")?)
        else {
            return unsupported(node);
        };
        let windows = JoinWindows::of(ms(node, "before_ms")?, ms(node, "grace_ms")?)
            .after(ms(node, "after_ms")?);
        let joined = StreamJoined::with(&name, Key::serde(), val(), val());
        Ok(Node::Stream(match kind(node)? {
            JoinKind::Inner => {
                let join = move |k: &Key, l: &Val, r: &Val| joiner(&key_text(k), l, r);
                left.join_stream(*right, join, windows, joined)
            }
            JoinKind::Left => {
                let join =
                    move |k: &Key, l: &Val, r: Option<&Val>| joiner(&key_text(k), l, or_null(r));
                left.left_join_stream(*right, join, windows, joined)
            }
            JoinKind::Outer => {
                let join = move |k: &Key, l: Option<&Val>, r: Option<&Val>| {
                    joiner(&key_text(k), or_null(l), or_null(r))
                };
                left.outer_join_stream(*right, join, windows, joined)
            }
        }))
    }

    pub(super) fn table_table_join(&mut self, node: &Json) -> Result<Node<'b>, NoAnswer> {
        let name = self.unnamed("join");
        let joiner = functions::joiner(&node["joiner"])?;
        let kind = kind(node)?;
        let join = move |l: Option<&Val>, r: Option<&Val>| {
            Some(joiner("", or_null(l), or_null(r))).filter(|joined| !joined.is_null())
        };
        let joined = TableJoined::named(&name);
        match (self.get(node, "left")?, self.get(node, "right")?) {
            (Node::Table(left), Node::Table(right)) => {
                let made = left.join_rows(kind, *right, join, joined);
                Ok(Node::Table(self.keep(node, made)))
            }
            (Node::WindowedTable(left), Node::WindowedTable(right)) => {
                let made = left.join_rows(kind, *right, join, joined);
                Ok(Node::WindowedTable(self.keep(node, made)))
            }
            _ => unsupported(node),
        }
    }

    pub(super) fn global_table(&mut self, node: &Json) -> Result<Node<'b>, NoAnswer> {
        let kept = self.materialized(node);
        Ok(Node::GlobalTable(self.builder.global_table(text(node, "topic")?, Key::serde(), kept)))
    }

    pub(super) fn stream_global_join(&mut self, node: &Json) -> Result<Node<'b>, NoAnswer> {
        let name = self.unnamed("join");
        let joiner = functions::joiner(&node["joiner"])?;
        let mapper = functions::key::<Key>(&node["key"])?;
        let mapper = move |k: &Key, v: &Val| Some(mapper(k, v));
        let (Node::Stream(left), Node::GlobalTable(right)) =
            (self.get(node, "left")?, self.get(node, "right")?)
        else {
            return unsupported(node);
        };
        let joined = Joined::with(&name, Key::serde(), val());
        Ok(Node::Stream(match kind(node)? {
            JoinKind::Inner => {
                let join = move |k: &Key, l: &Val, r: &Val| joiner(&key_text(k), l, r);
                left.join_global(right, mapper, join, joined)
            }
            JoinKind::Left => {
                let join =
                    move |k: &Key, l: &Val, r: Option<&Val>| joiner(&key_text(k), l, or_null(r));
                left.left_join_global(right, mapper, join, joined)
            }
            JoinKind::Outer => return unsupported(node),
        }))
    }

    pub(super) fn fk_join(&mut self, node: &Json) -> Result<Node<'b>, NoAnswer> {
        let name = self.unnamed("join");
        let joiner = functions::joiner(&node["joiner"])?;
        let foreign = functions::key::<Key>(&node["foreign_key"])?;
        let foreign = move |k: &Key, v: &Val| Some(foreign(k, v));
        let (Node::Table(left), Node::Table(right)) =
            (self.get(node, "left")?, self.get(node, "right")?)
        else {
            return unsupported(node);
        };
        let joined = ForeignKeyJoined::with(&name, val(), val(), val());
        let joined = if self.cached { joined.cached() } else { joined };
        let made = match kind(node)? {
            JoinKind::Inner => {
                let join = move |l: &Val, r: &Val| joiner("", l, r);
                left.foreign_key_join(*right, foreign, join, joined)
            }
            JoinKind::Left => {
                let join = move |l: &Val, r: Option<&Val>| joiner("", l, or_null(r));
                left.foreign_key_left_join(*right, foreign, join, joined)
            }
            JoinKind::Outer => return unsupported(node),
        };
        Ok(Node::Table(self.keep(node, made)))
    }

    pub(super) fn split(&mut self, node: &Json) -> Result<(), NoAnswer> {
        match self.get(node, "from")? {
            Node::Stream(stream) => {
                let stream = *stream;
                self.branches(node, stream, Node::Stream)
            }
            Node::WindowedStream(stream) => {
                let stream = *stream;
                self.branches(node, stream, Node::WindowedStream)
            }
            _ => unsupported(node),
        }
    }

    fn branches<K: ScenarioKey>(
        &mut self,
        node: &Json,
        from: Stream<'b, K>,
        wrap: fn(Stream<'b, K>) -> Node<'b>,
    ) -> Result<(), NoAnswer> {
        let mut split = from.split();
        for branch in node["branches"].as_array().into_iter().flatten() {
            let made = split.branch(functions::predicate(&branch["pred"])?);
            self.nodes.insert(text(branch, "id")?.to_owned(), wrap(made));
        }
        if let Some(id) = node["default"].as_str() {
            self.nodes.insert(id.to_owned(), wrap(split.default_branch()));
        }
        Ok(())
    }

    pub(super) fn table_of(&mut self, node: &Json, from: Stream<'b, Key>) -> Table<'b, Key> {
        let tabled = Tabled::with(&self.unnamed("table"), Key::serde(), val());
        let tabled = if self.cached { tabled.cached() } else { tabled };
        let rows = from.map_values(|_, v| Some(v.clone()).filter(|v| !v.is_null()));
        let made = rows.to_table(tabled);
        self.keep(node, made)
    }
}
