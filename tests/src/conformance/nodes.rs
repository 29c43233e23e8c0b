//! Builds a scenario's nodes in the DSL, one after the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater::dsl::{
    CogroupedKStream, Consumed, GlobalKTable, Grouped, KGroupedStream, KGroupedTable, KStream,
    KTable, Materialized, Produced, Repartitioned, StreamsBuilder,
};
use headwater::record::Windowed;
use headwater::store::{StoreId, Stored, WindowSpec};
use serde_json::Value as Json;

use super::NoAnswer;
use super::functions;
use super::processors::{Custom, Declared};
use super::values::{Key, ScenarioKey, Val, parse, val};
use super::windows::{self, Windowing};

/// What `peek` and `foreach` saw: name, key, value.
pub(super) type Observations = Arc<Mutex<Vec<(String, Json, Json)>>>;

pub(super) type Stream<'b, K> = KStream<'b, K, Val>;
pub(super) type Table<'b, K> = KTable<'b, K, Val>;

/// What a node's id stands for.
pub(super) enum Node<'b> {
    Stream(Stream<'b, Key>),
    WindowedStream(Stream<'b, Windowed<Key>>),
    Table(Table<'b, Key>),
    WindowedTable(Table<'b, Windowed<Key>>),
    Grouped(KGroupedStream<'b, Key, Val>),
    WindowedGrouped(KGroupedStream<'b, Windowed<Key>, Val>),
    GlobalTable(GlobalKTable<'b, Key, Val>),
    GroupedTable(KGroupedTable<'b, Key, Val>),
    Cogrouped(CogroupedKStream<'b, Key, Val>),
    /// A grouping or cogroup by this id, in windows.
    Windows(String, Windowing),
}

pub(super) struct Nodes<'b> {
    pub(super) builder: &'b StreamsBuilder,
    pub(super) cached: bool,
    pub(super) nodes: BTreeMap<String, Node<'b>>,
    declared: BTreeMap<String, Declared>,
    observations: Observations,
    stores: Vec<String>,
    outputs: BTreeMap<String, bool>,
    unnamed: usize,
}

pub(super) fn unsupported<T>(node: &Json) -> Result<T, NoAnswer> {
    Err(NoAnswer::Unsupported(format!("node {node}")))
}

pub(super) fn text<'j>(node: &'j Json, field: &str) -> Result<&'j str, NoAnswer> {
    node[field].as_str().ok_or_else(|| NoAnswer::failed(format!("{node} has no {field}")))
}

pub(super) fn ms(node: &Json, field: &str) -> Result<Duration, NoAnswer> {
    let found = node[field].as_u64().map(Duration::from_millis);
    found.ok_or_else(|| NoAnswer::failed(format!("{node} has no {field}")))
}

impl<'b> Nodes<'b> {
    pub(super) fn new(builder: &'b StreamsBuilder, cached: bool) -> Self {
        Self {
            builder,
            cached,
            nodes: BTreeMap::new(),
            declared: BTreeMap::new(),
            observations: Arc::default(),
            stores: Vec::new(),
            outputs: BTreeMap::new(),
            unnamed: 0,
        }
    }

    /// What was observed, the stores to show, the topics written and whether their keys are windowed.
    pub(super) fn finish(self) -> (Observations, Vec<String>, BTreeMap<String, bool>) {
        (self.observations, self.stores, self.outputs)
    }

    pub(super) fn add(&mut self, node: &Json) -> Result<(), NoAnswer> {
        let made = match text(node, "op")? {
            "stream" => Some(Node::Stream(self.stream(node)?)),
            "table" => Some(Node::Table(self.table(node)?)),
            "store" => {
                self.store(node)?;
                None
            }
            "window_by" => Some(self.window_by(node)?),
            "cogroup" => Some(self.cogroup(node)?),
            "merge" => Some(match (self.get(node, "left")?, self.get(node, "right")?) {
                (Node::Stream(l), Node::Stream(r)) => Node::Stream(l.merge(*r)),
                (Node::WindowedStream(l), Node::WindowedStream(r)) => {
                    Node::WindowedStream(l.merge(*r))
                }
                _ => return unsupported(node),
            }),
            "stream_table_join" => Some(self.stream_table_join(node)?),
            "stream_stream_join" => Some(self.stream_stream_join(node)?),
            "global_table" => Some(self.global_table(node)?),
            "stream_global_join" => Some(self.stream_global_join(node)?),
            "fk_join" => Some(self.fk_join(node)?),
            "table_table_join" => Some(self.table_table_join(node)?),
            "split" => {
                self.split(node)?;
                None
            }
            "count" | "reduce" | "aggregate" => Some(self.aggregation(node)?),
            _ if node["from"].is_null() => return unsupported(node),
            _ => self.derived(node)?,
        };
        if let Some(made) = made {
            self.nodes.insert(text(node, "id")?.to_owned(), made);
        }
        Ok(())
    }

    pub(super) fn get(&self, node: &Json, field: &str) -> Result<&Node<'b>, NoAnswer> {
        let id = text(node, field)?;
        self.nodes.get(id).ok_or_else(|| NoAnswer::Unsupported(format!("node {id}")))
    }

    fn stream(&self, node: &Json) -> Result<Stream<'b, Key>, NoAnswer> {
        let consumed = Consumed::with(Key::serde(), val());
        let consumed = match node["timestamp"]["fn"].as_str() {
            None => consumed,
            Some("value") => consumed.timestamp_extractor(|_, v, time| match v {
                Val::Int(n) => *n,
                _ => time,
            }),
            Some(_) => return unsupported(node),
        };
        Ok(self.builder.stream(text(node, "topic")?, consumed))
    }

    fn table(&mut self, node: &Json) -> Result<Table<'b, Key>, NoAnswer> {
        let consumed = Consumed::with(Key::serde(), val());
        let consumed = if self.cached { consumed.cached() } else { consumed };
        let table = self.builder.table(text(node, "topic")?, consumed);
        Ok(self.keep(node, table))
    }

    /// Gives a table the store that its node names, if it names one.
    pub(super) fn keep<K: 'static>(&mut self, node: &Json, table: Table<'b, K>) -> Table<'b, K> {
        match node["store"].as_str() {
            None => table,
            Some(_) => table.materialized(self.materialized(node)),
        }
    }

    pub(super) fn materialized(&mut self, node: &Json) -> Materialized<Val> {
        let name = match node["store"].as_str() {
            Some(name) => {
                self.stores.push(name.to_owned());
                name.to_owned()
            }
            None => self.unnamed("store"),
        };
        let kept = Materialized::with(&name, val());
        let kept = match node["history_retention_ms"].as_u64() {
            Some(ms) => kept.versioned(Duration::from_millis(ms)),
            None => kept,
        };
        let kept = match node["retention_ms"].as_u64() {
            Some(ms) => kept.retention(Duration::from_millis(ms)),
            None => kept,
        };
        if self.cached && node["caching"].as_bool() != Some(false) { kept.cached() } else { kept }
    }

    pub(super) fn unnamed(&mut self, what: &str) -> String {
        self.unnamed += 1;
        format!("unnamed-{what}-{}", self.unnamed)
    }

    fn store(&mut self, node: &Json) -> Result<(), NoAnswer> {
        let name = text(node, "name")?;
        let declared = match text(node, "kind")? {
            "kv" => Declared::KeyValue(self.builder.add_store(Stored::key_value(
                name,
                Key::serde(),
                val(),
            ))),
            "window" => {
                let number = |field| ms(node, field).map(|d| i64::try_from(d.as_millis()));
                let (Ok(size_ms), Ok(retention_ms)) =
                    (number("window_size_ms")?, number("retention_ms")?)
                else {
                    return unsupported(node);
                };
                let windows = WindowSpec { size_ms, retention_ms };
                let stored = Stored::window(name, windows, Key::serde(), val());
                Declared::Window(self.builder.add_store(stored))
            }
            _ => return unsupported(node),
        };
        self.stores.push(name.to_owned());
        self.declared.insert(name.to_owned(), declared);
        Ok(())
    }

    /// Nodes of one parent.
    fn derived(&mut self, node: &Json) -> Result<Option<Node<'b>>, NoAnswer> {
        match self.get(node, "from")? {
            Node::Stream(stream) => {
                let stream = *stream;
                self.on_stream(node, stream, Node::Stream)
            }
            Node::WindowedStream(stream) => {
                let stream = *stream;
                self.on_stream(node, stream, Node::WindowedStream)
            }
            Node::Table(table) => {
                let table = *table;
                self.on_table(node, table, Node::Table, Node::Stream).map(Some)
            }
            Node::WindowedTable(table) => {
                let table = *table;
                self.on_table(node, table, Node::WindowedTable, Node::WindowedStream).map(Some)
            }
            _ => unsupported(node),
        }
    }

    fn on_stream<K: ScenarioKey>(
        &mut self,
        node: &Json,
        from: Stream<'b, K>,
        wrap: fn(Stream<'b, K>) -> Node<'b>,
    ) -> Result<Option<Node<'b>>, NoAnswer> {
        Ok(Some(match text(node, "op")? {
            "filter" => wrap(from.filter(functions::predicate(&node["pred"])?)),
            "filter_not" => wrap(from.filter_not(functions::predicate(&node["pred"])?)),
            "map" => {
                let key = functions::key::<K>(&node["key"])?;
                let value = functions::value::<K>(&node["value"])?;
                Node::Stream(from.map(move |k, v| (key(k, v), value(k, v))))
            }
            "map_values" => wrap(from.map_values(functions::value(&node["value"])?)),
            "flat_map" => Node::Stream(from.flat_map(functions::flat_map(&node["fn"])?)),
            "flat_map_values" => {
                wrap(from.flat_map_values(functions::flat_map_values(&node["fn"])?))
            }
            "select_key" => Node::Stream(from.select_key(functions::key(&node["key"])?)),
            "peek" => wrap(from.peek(self.observe(node)?)),
            "foreach" => {
                from.for_each(self.observe(node)?);
                return Ok(None);
            }
            "process" => Node::Stream(self.process(node, from)?),
            "to_table" => match node_is_windowed(wrap(from)) {
                Err(stream) => Node::Table(self.table_of(node, stream)),
                Ok(_) => return unsupported(node),
            },
            "repartition" => {
                let name = self.unnamed("repartition");
                wrap(from.repartition(Repartitioned::with(&name, K::serde(), val())))
            }
            "group_by_key" => {
                let name = self.unnamed("grouping");
                let windowed = node_is_windowed(wrap(from));
                return Ok(Some(match windowed {
                    Ok(stream) => Node::WindowedGrouped(stream.group_by_key(Grouped::with(
                        &name,
                        <Windowed<Key>>::serde(),
                        val(),
                    ))),
                    Err(stream) => Node::Grouped(stream.group_by_key(Grouped::with(
                        &name,
                        Key::serde(),
                        val(),
                    ))),
                }));
            }
            "group_by" => {
                let name = self.unnamed("grouping");
                let key = functions::key::<K>(&node["key"])?;
                Node::Grouped(from.group_by(key, Grouped::with(&name, Key::serde(), val())))
            }
            "to" => {
                let topic = text(node, "topic")?;
                from.to(topic, Produced::with(K::serde(), val()));
                let windowed = node_is_windowed(wrap(from)).is_ok();
                self.outputs.insert(topic.to_owned(), windowed);
                return Ok(None);
            }
            _ => return unsupported(node),
        }))
    }

    fn observe<K: ScenarioKey>(
        &self,
        node: &Json,
    ) -> Result<impl Fn(&K, &Val) + Send + Sync + use<K>, NoAnswer> {
        let name = text(node, "observe")?.to_owned();
        let seen = Arc::clone(&self.observations);
        Ok(move |key: &K, value: &Val| {
            seen.lock().expect("one thread").push((name.clone(), key.json(), value.json()));
        })
    }

    fn process<K: ScenarioKey>(
        &self,
        node: &Json,
        from: Stream<'b, K>,
    ) -> Result<Stream<'b, Key>, NoAnswer> {
        let spec = &node["processor"];
        let store = spec["store"].as_str().and_then(|name| self.declared.get(name)).copied();
        let names = node["stores"].as_array().into_iter().flatten().filter_map(Json::as_str);
        let ids: Vec<StoreId> = names
            .filter_map(|name| self.declared.get(name))
            .map(|declared| match declared {
                Declared::KeyValue(handle) => handle.id(),
                Declared::Window(handle) => handle.id(),
            })
            .collect();
        let custom = Custom::<K>::parse(spec, store)?;
        Ok(from.process(move || custom.clone(), &ids))
    }

    fn on_table<K: ScenarioKey + windows::Suppressible>(
        &mut self,
        node: &Json,
        from: Table<'b, K>,
        table: fn(Table<'b, K>) -> Node<'b>,
        stream: fn(Stream<'b, K>) -> Node<'b>,
    ) -> Result<Node<'b>, NoAnswer> {
        Ok(match text(node, "op")? {
            "filter" => {
                let made = from.filter(functions::predicate(&node["pred"])?);
                table(self.keep(node, made))
            }
            "filter_not" => {
                let made = from.filter_not(functions::predicate(&node["pred"])?);
                table(self.keep(node, made))
            }
            "map_values" => {
                let map = functions::value::<K>(&node["value"])?;
                let made =
                    from.filter_map_values(move |k, v| Some(map(k, v)).filter(|v| !v.is_null()));
                table(self.keep(node, made))
            }
            "group_by" => {
                let name = self.unnamed("grouping");
                let key = functions::key::<K>(&node["key"])?;
                let value = functions::value::<K>(&node["value"])?;
                let selector = move |k: &K, v: &Val| (key(k, v), value(k, v));
                let grouped = Grouped::with(&name, Key::serde(), val());
                Node::GroupedTable(from.group_by(selector, grouped))
            }
            "to_stream" => {
                let records = from.to_stream();
                stream(records.map_values(|_, v| v.clone().unwrap_or(Val::Null)))
            }
            "suppress" => table(windows::suppress(self, node, from)?),
            _ => return unsupported(node),
        })
    }

    fn aggregation(&mut self, node: &Json) -> Result<Node<'b>, NoAnswer> {
        let materialized = self.materialized(node);
        match self.get(node, "from")? {
            Node::Grouped(grouped) => Ok(Node::Table(aggregate(node, grouped, materialized)?)),
            Node::GroupedTable(grouped) => {
                Ok(Node::Table(aggregate_rows(node, grouped, materialized)?))
            }
            Node::WindowedGrouped(grouped) => {
                Ok(Node::WindowedTable(aggregate(node, grouped, materialized)?))
            }
            Node::Cogrouped(cogrouped) => {
                let init = parse(&node["init"]);
                Ok(Node::Table(cogrouped.aggregate(move || init.clone(), materialized)))
            }
            Node::Windows(id, windowing) => match self.nodes.get(id) {
                Some(Node::Grouped(grouped)) => {
                    windows::aggregate(node, grouped, *windowing, materialized)
                }
                Some(Node::Cogrouped(cogrouped)) => {
                    windows::aggregate_cogroup(node, cogrouped, *windowing, materialized)
                }
                _ => unsupported(node),
            },
            _ => unsupported(node),
        }
    }
}

/// The stream inside, by the kind of its key.
fn node_is_windowed<'b>(node: Node<'b>) -> Result<Stream<'b, Windowed<Key>>, Stream<'b, Key>> {
    match node {
        Node::WindowedStream(stream) => Ok(stream),
        Node::Stream(stream) => Err(stream),
        _ => unreachable!("a stream wraps into a stream"),
    }
}

pub(super) fn count<K>(_: &K, _: &Val, so_far: Val) -> Val {
    Val::Int(so_far.number() + 1)
}

fn aggregate<'b, K: ScenarioKey>(
    node: &Json,
    grouped: &KGroupedStream<'b, K, Val>,
    materialized: Materialized<Val>,
) -> Result<Table<'b, K>, NoAnswer> {
    Ok(match text(node, "op")? {
        "count" => grouped.aggregate(|| Val::Int(0), count, materialized),
        "reduce" => grouped.reduce(functions::reducer(&node["reducer"])?, materialized),
        _ => {
            let init = parse(&node["init"]);
            let fold = functions::aggregator(&node["aggregator"])?;
            grouped.aggregate(move || init.clone(), fold, materialized)
        }
    })
}

fn aggregate_rows<'b>(
    node: &Json,
    grouped: &KGroupedTable<'b, Key, Val>,
    materialized: Materialized<Val>,
) -> Result<Table<'b, Key>, NoAnswer> {
    Ok(match text(node, "op")? {
        "count" => {
            let less = |_: &Key, _: &Val, so_far: Val| Val::Int(so_far.number() - 1);
            grouped.aggregate(|| Val::Int(0), count, less, materialized)
        }
        "reduce" => {
            let adder = functions::reducer(&node["adder"])?;
            grouped.reduce(adder, functions::reducer(&node["subtractor"])?, materialized)
        }
        _ => {
            let init = parse(&node["init"]);
            let adder = functions::aggregator(&node["adder"])?;
            let subtractor = functions::aggregator(&node["subtractor"])?;
            grouped.aggregate(move || init.clone(), adder, subtractor, materialized)
        }
    })
}
