//! Nodes of scenarios that have to do with windows: `window_by` and its aggregations, `cogroup`,
//! `suppress`.

use headwater::dsl::{
    CogroupedKStream, KGroupedStream, KTable, Materialized, SessionWindows, SlidingWindows,
    Suppressed, TimeWindows,
};
use headwater::record::Windowed;
use serde_json::Value as Json;

use super::NoAnswer;
use super::functions;
use super::nodes::{Node, Nodes, count, ms, text, unsupported};
use super::values::{Key, Val, parse, val};

/// The windows of a node, and whether results come when they close.
#[derive(Debug, Clone, Copy)]
pub(super) enum Windowing {
    Time(TimeWindows, bool),
    Sliding(SlidingWindows, bool),
    Session(SessionWindows, bool),
}

impl<'b> Nodes<'b> {
    pub(super) fn window_by(&self, node: &Json) -> Result<Node<'b>, NoAnswer> {
        let windows = &node["window"];
        let closing = match node["emit"].as_str() {
            None => false,
            Some("on_window_close") => true,
            Some(_) => return unsupported(node),
        };
        let windowing = match text(windows, "kind")? {
            "tumbling" => {
                let of = TimeWindows::tumbling(ms(windows, "size_ms")?, ms(windows, "grace_ms")?);
                Windowing::Time(of, closing)
            }
            "hopping" => {
                let (size, advance) = (ms(windows, "size_ms")?, ms(windows, "advance_ms")?);
                let of = TimeWindows::hopping(size, advance, ms(windows, "grace_ms")?);
                Windowing::Time(of, closing)
            }
            "unlimited" => {
                Windowing::Time(TimeWindows::unlimited(ms(windows, "start_ms")?), closing)
            }
            "sliding" => {
                let (difference, grace) = (ms(windows, "difference_ms")?, ms(windows, "grace_ms")?);
                Windowing::Sliding(SlidingWindows::of_difference(difference, grace), closing)
            }
            "session" => {
                let (gap, grace) = (ms(windows, "gap_ms")?, ms(windows, "grace_ms")?);
                Windowing::Session(SessionWindows::with_gap(gap, grace), closing)
            }
            _ => return unsupported(node),
        };
        match self.get(node, "from")? {
            Node::Grouped(_) => {}
            Node::Cogrouped(_) if !closing => {}
            _ => return unsupported(node),
        }
        Ok(Node::Windows(text(node, "from")?.to_owned(), windowing))
    }

    /// Groupings move into their cogroup.
    pub(super) fn cogroup(&mut self, node: &Json) -> Result<Node<'b>, NoAnswer> {
        let mut cogrouped: Option<CogroupedKStream<'b, Key, Val>> = None;
        for input in node["inputs"].as_array().into_iter().flatten() {
            let fold = functions::aggregator(&input["aggregator"])?;
            let Some(Node::Grouped(grouped)) = self.nodes.remove(text(input, "from")?) else {
                return unsupported(node);
            };
            cogrouped = Some(match cogrouped {
                None => grouped.cogroup(fold),
                Some(cogrouped) => cogrouped.cogroup(grouped, fold),
            });
        }
        cogrouped.map_or_else(|| unsupported(node), |cogrouped| Ok(Node::Cogrouped(cogrouped)))
    }
}

pub(super) fn aggregate<'b>(
    node: &Json,
    grouped: &KGroupedStream<'b, Key, Val>,
    windowing: Windowing,
    materialized: Materialized<Val>,
) -> Result<Node<'b>, NoAnswer> {
    let windowed = match windowing {
        Windowing::Session(windows, closing) => {
            return by_sessions(node, grouped, windows, closing, materialized);
        }
        Windowing::Time(windows, closing) => match closing {
            true => grouped.windowed_by(windows).emit_on_window_close(),
            false => grouped.windowed_by(windows),
        },
        Windowing::Sliding(windows, closing) => match closing {
            true => grouped.windowed_by_sliding(windows).emit_on_window_close(),
            false => grouped.windowed_by_sliding(windows),
        },
    };
    Ok(Node::WindowedTable(match text(node, "op")? {
        "count" => windowed.aggregate(|| Val::Int(0), count, materialized),
        "reduce" => windowed.reduce(functions::reducer(&node["reducer"])?, materialized),
        _ => {
            let init = parse(&node["init"]);
            let fold = functions::aggregator(&node["aggregator"])?;
            windowed.aggregate(move || init.clone(), fold, materialized)
        }
    }))
}

fn by_sessions<'b>(
    node: &Json,
    grouped: &KGroupedStream<'b, Key, Val>,
    windows: SessionWindows,
    closing: bool,
    materialized: Materialized<Val>,
) -> Result<Node<'b>, NoAnswer> {
    let windowed = grouped.windowed_by_sessions(windows);
    let windowed = if closing { windowed.emit_on_window_close() } else { windowed };
    Ok(Node::WindowedTable(match text(node, "op")? {
        "count" => {
            let add = |_: &Key, a: Val, b: Val| Val::Int(a.number() + b.number());
            windowed.aggregate(|| Val::Int(0), count, add, materialized)
        }
        "reduce" => windowed.reduce(functions::reducer(&node["reducer"])?, materialized),
        _ => {
            let init = parse(&node["init"]);
            let fold = functions::aggregator(&node["aggregator"])?;
            let merge = functions::reducer(&node["merger"])?;
            let merge = move |_: &Key, a: Val, b: Val| merge(&a, &b);
            windowed.aggregate(move || init.clone(), fold, merge, materialized)
        }
    }))
}

pub(super) fn aggregate_cogroup<'b>(
    node: &Json,
    cogrouped: &CogroupedKStream<'b, Key, Val>,
    windowing: Windowing,
    materialized: Materialized<Val>,
) -> Result<Node<'b>, NoAnswer> {
    let init = parse(&node["init"]);
    let init = move || init.clone();
    Ok(Node::WindowedTable(match windowing {
        Windowing::Time(windows, _) => cogrouped.windowed_by(windows).aggregate(init, materialized),
        Windowing::Sliding(windows, _) => {
            cogrouped.windowed_by_sliding(windows).aggregate(init, materialized)
        }
        Windowing::Session(windows, _) => {
            let merge = functions::reducer(&node["merger"])?;
            let merge = move |_: &Key, a: Val, b: Val| merge(&a, &b);
            cogrouped.windowed_by_sessions(windows).aggregate(init, merge, materialized)
        }
    }))
}

/// A key of a table that can be suppressed.
pub(super) trait Suppressible: Sized + 'static {
    /// Until windows close, if the key has one.
    fn until_window_closes(name: &str) -> Option<Suppressed<Self, Val>>;
}

impl Suppressible for Key {
    fn until_window_closes(_: &str) -> Option<Suppressed<Self, Val>> {
        None
    }
}

impl Suppressible for Windowed<Key> {
    fn until_window_closes(name: &str) -> Option<Suppressed<Self, Val>> {
        Some(Suppressed::until_window_closes(name, val()))
    }
}

pub(super) fn suppress<'b, K: Suppressible>(
    nodes: &mut Nodes<'b>,
    node: &Json,
    from: KTable<'b, K, Val>,
) -> Result<KTable<'b, K, Val>, NoAnswer> {
    let name = nodes.unnamed("suppress");
    let suppressed = match text(node, "until")? {
        "window_closes" => K::until_window_closes(&name),
        "time_limit" => Some(Suppressed::until_time_limit(&name, ms(node, "limit_ms")?, val())),
        _ => None,
    };
    let Some(suppressed) = suppressed else { return unsupported(node) };
    Ok(from.suppress(match node["max_records"].as_u64() {
        Some(records) => suppressed.max_records(records),
        None => suppressed,
    }))
}
