//! Functions of scenarios: predicates, value and key functions, aggregators, joiners.

use serde_json::Value as Json;

use super::NoAnswer;
use super::values::{Key, ScenarioKey, Val};

pub(super) type Predicate<K> = Box<dyn Fn(&K, &Val) -> bool + Send + Sync>;
pub(super) type ValueFn<K> = Box<dyn Fn(&K, &Val) -> Val + Send + Sync>;
pub(super) type KeyFn<K> = Box<dyn Fn(&K, &Val) -> Key + Send + Sync>;
pub(super) type Fold<K> = Box<dyn Fn(&K, &Val, Val) -> Val + Send + Sync>;
pub(super) type Combine = Box<dyn Fn(&Val, &Val) -> Val + Send + Sync>;
pub(super) type Joiner = Box<dyn Fn(&str, &Val, &Val) -> Val + Send + Sync>;

fn name(f: &Json) -> Result<&str, NoAnswer> {
    f["fn"].as_str().ok_or_else(|| NoAnswer::failed(format!("{f} is no function")))
}

fn number(f: &Json, field: &str) -> Result<i64, NoAnswer> {
    f[field].as_i64().ok_or_else(|| NoAnswer::failed(format!("{f} has no number {field}")))
}

fn text(f: &Json, field: &str) -> Result<String, NoAnswer> {
    let found = f[field].as_str();
    found.map(str::to_owned).ok_or_else(|| NoAnswer::failed(format!("{f} has no text {field}")))
}

fn unsupported<T>(what: &str, f: &Json) -> Result<T, NoAnswer> {
    Err(NoAnswer::Unsupported(format!("{what} {f}")))
}

fn shown<K: ScenarioKey>(key: &K) -> String {
    key.text().unwrap_or_else(|| "null".into())
}

pub(super) fn predicate<K: ScenarioKey>(f: &Json) -> Result<Predicate<K>, NoAnswer> {
    let on_number = |test: Box<dyn Fn(i64) -> bool + Send + Sync>| -> Predicate<K> {
        Box::new(move |_, v| matches!(v, Val::Int(n) if test(*n)))
    };
    Ok(match name(f)? {
        "even" => on_number(Box::new(|n| n % 2 == 0)),
        "gt" => {
            let bound = number(f, "n")?;
            on_number(Box::new(move |n| n > bound))
        }
        "lt" => {
            let bound = number(f, "n")?;
            on_number(Box::new(move |n| n < bound))
        }
        "mod_is" => {
            let (n, r) = (number(f, "n")?, number(f, "r")?);
            on_number(Box::new(move |v| v.rem_euclid(n) == r))
        }
        "key_prefix" => {
            let prefix = text(f, "s")?;
            Box::new(move |k, _| k.text().is_some_and(|k| k.starts_with(&prefix)))
        }
        "value_null" => Box::new(|_, v| v.is_null()),
        "key_null" => Box::new(|k, _| k.text().is_none()),
        _ => return unsupported("predicate", f),
    })
}

pub(super) fn value<K: ScenarioKey>(f: &Json) -> Result<ValueFn<K>, NoAnswer> {
    let map = |map: Box<dyn Fn(&Val) -> Val + Send + Sync>| -> ValueFn<K> {
        Box::new(move |_, v| if v.is_null() { Val::Null } else { map(v) })
    };
    Ok(match name(f)? {
        "identity" => map(Box::new(Val::clone)),
        "add" => {
            let n = number(f, "n")?;
            map(Box::new(move |v| Val::Int(v.number().wrapping_add(n))))
        }
        "mul" => {
            let n = number(f, "n")?;
            map(Box::new(move |v| Val::Int(v.number().wrapping_mul(n))))
        }
        "mod" => {
            let n = number(f, "n")?;
            map(Box::new(move |v| Val::Int(v.number().rem_euclid(n))))
        }
        "length" => {
            map(Box::new(|v| Val::Int(i64::try_from(v.text().chars().count()).unwrap_or(i64::MAX))))
        }
        "to_string" => map(Box::new(|v| Val::Str(v.text()))),
        "prefix" => {
            let s = text(f, "s")?;
            map(Box::new(move |v| Val::Str(format!("{s}{}", v.text()))))
        }
        "null_if" => {
            let pred = predicate::<K>(&f["pred"])?;
            Box::new(move |k, v| if pred(k, v) { Val::Null } else { v.clone() })
        }
        "describe" => Box::new(|k, v| Val::Str(format!("{}={}", shown(k), v.text()))),
        _ => return unsupported("value function", f),
    })
}

pub(super) fn key<K: ScenarioKey>(f: &Json) -> Result<KeyFn<K>, NoAnswer> {
    Ok(match name(f)? {
        "key" => Box::new(|k, _| Key(k.text())),
        "const" => {
            let s = text(f, "s")?;
            Box::new(move |_, _| Key(Some(s.clone())))
        }
        "null" => Box::new(|_, _| Key(None)),
        "value" => Box::new(|_, v| Key((!v.is_null()).then(|| v.text()))),
        "mod" => {
            let n = number(f, "n")?;
            Box::new(move |_, v| match v {
                Val::Null => Key(None),
                v => Key(Some(format!("m{}", v.number().rem_euclid(n)))),
            })
        }
        "prefix" => {
            let s = text(f, "s")?;
            Box::new(move |k, _| Key(k.text().map(|k| format!("{s}{k}"))))
        }
        "first_char" => Box::new(|k, _| Key(k.text().map(|k| k.chars().take(1).collect()))),
        "window_key" => Box::new(|k, _| k.inner()),
        "null_if" => {
            let (pred, other) = (predicate::<K>(&f["pred"])?, key::<K>(&f["else"])?);
            Box::new(move |k, v| if pred(k, v) { Key(None) } else { other(k, v) })
        }
        _ => return unsupported("key function", f),
    })
}

type FlatMap<K> = Box<dyn Fn(&K, &Val) -> Vec<(Key, Val)> + Send + Sync>;

pub(super) fn flat_map<K: ScenarioKey>(f: &Json) -> Result<FlatMap<K>, NoAnswer> {
    let n = number(f, "n")?;
    Ok(match name(f)? {
        "fan" => Box::new(move |k, v| {
            let pair = |i: i64| {
                let value = match v {
                    Val::Null => Val::Null,
                    Val::Int(v) => Val::Int(v.wrapping_add(i)),
                    Val::Str(s) => Val::Str(format!("{s}{i}")),
                };
                (Key(k.text().map(|k| format!("{k}{i}"))), value)
            };
            (0..n).map(pair).collect()
        }),
        "range" => Box::new(move |k, v| {
            let count = v.number().rem_euclid(n);
            (0..count).map(|i| (Key(k.text()), Val::Int(i))).collect()
        }),
        _ => return unsupported("flat map", f),
    })
}

type FlatMapValues<K> = Box<dyn Fn(&K, &Val) -> Vec<Val> + Send + Sync>;

pub(super) fn flat_map_values<K: ScenarioKey>(f: &Json) -> Result<FlatMapValues<K>, NoAnswer> {
    Ok(match name(f)? {
        "repeat" => {
            let n = number(f, "n")?;
            Box::new(move |_, v| (0..n).map(|_| v.clone()).collect())
        }
        "range" => {
            let n = number(f, "n")?;
            Box::new(move |_, v| match v {
                Val::Int(v) => (0..v.rem_euclid(n)).map(Val::Int).collect(),
                _ => Vec::new(),
            })
        }
        "chars" => Box::new(|_, v| match v {
            Val::Str(s) => s.chars().map(|c| Val::Str(c.to_string())).collect(),
            _ => Vec::new(),
        }),
        _ => return unsupported("flat map of values", f),
    })
}

fn extreme(a: &Val, b: &Val, pick: fn(i64, i64) -> i64) -> Val {
    match (a, b) {
        (Val::Null, other) | (other, Val::Null) => other.clone(),
        (a, b) => Val::Int(pick(a.number(), b.number())),
    }
}

pub(super) fn aggregator<K: ScenarioKey>(f: &Json) -> Result<Fold<K>, NoAnswer> {
    Ok(match name(f)? {
        "count" => Box::new(|_, _, a| Val::Int(a.number().wrapping_add(1))),
        "sum" => Box::new(|_, v, a| Val::Int(a.number().wrapping_add(v.number()))),
        "sub" => Box::new(|_, v, a| Val::Int(a.number().wrapping_sub(v.number()))),
        "min" => Box::new(|_, v, a| extreme(&a, v, i64::min)),
        "max" => Box::new(|_, v, a| extreme(&a, v, i64::max)),
        "concat" => Box::new(|_, v, a| Val::Str(format!("{}|{}", a.text(), v.text()))),
        "remove" => Box::new(|_, v, a| Val::Str(format!("{}|-{}", a.text(), v.text()))),
        "concat_key" => {
            Box::new(|k, v, a| Val::Str(format!("{}|{}={}", a.text(), shown(k), v.text())))
        }
        "sum_cap" => {
            let n = number(f, "n")?;
            Box::new(move |_, v, a| {
                let sum = a.number().wrapping_add(v.number());
                if sum > n { Val::Null } else { Val::Int(sum) }
            })
        }
        _ => return unsupported("aggregator", f),
    })
}

pub(super) fn reducer(f: &Json) -> Result<Combine, NoAnswer> {
    Ok(match name(f)? {
        "sum" => Box::new(|a, b| Val::Int(a.number().wrapping_add(b.number()))),
        "sub" => Box::new(|a, b| Val::Int(a.number().wrapping_sub(b.number()))),
        "min" => Box::new(|a, b| extreme(a, b, i64::min)),
        "max" => Box::new(|a, b| extreme(a, b, i64::max)),
        "first" => Box::new(|a, _| a.clone()),
        "last" => Box::new(|_, b| b.clone()),
        "concat" => Box::new(|a, b| Val::Str(format!("{}|{}", a.text(), b.text()))),
        "merge_concat" => Box::new(|a, b| Val::Str(format!("{}+{}", a.text(), b.text()))),
        _ => return unsupported("reducer", f),
    })
}

pub(super) fn joiner(f: &Json) -> Result<Joiner, NoAnswer> {
    Ok(match name(f)? {
        "concat" => Box::new(|_, l, r| Val::Str(format!("({},{})", l.text(), r.text()))),
        "concat_key" => Box::new(|k, l, r| Val::Str(format!("{k}({},{})", l.text(), r.text()))),
        "sum" => Box::new(|_, l, r| Val::Int(l.number().wrapping_add(r.number()))),
        "right" => Box::new(|_, _, r| r.clone()),
        "null_if_sum_even" => Box::new(|_, l, r| {
            let sum = l.number().wrapping_add(r.number());
            if sum % 2 == 0 { Val::Null } else { Val::Int(sum) }
        }),
        _ => return unsupported("joiner", f),
    })
}
