//! The project's sources as text: which files there are, their code without comments and strings,
//! and which modules of its own crate a file names. It knows no rule; `layering` and `tidy` hold
//! those.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One text file of the project.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path from the root of the project, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// The root of the project.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate lies in the project")
        .to_path_buf()
}

/// All files under `folder` of the project whose name ends in `ending`, in path order. Hidden
/// folders and `target` are left out.
#[must_use]
pub fn files(folder: &str, ending: &str) -> Vec<SourceFile> {
    let root = root();
    let mut found = Vec::new();
    walk(&root.join(folder), &mut |path| {
        let name = path
            .strip_prefix(&root)
            .expect("walked from the root")
            .to_string_lossy()
            .replace('\\', "/");
        if name.ends_with(ending)
            && let Ok(text) = fs::read_to_string(path)
        {
            found.push(SourceFile { path: name, text });
        }
    });
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                walk(&path, visit);
            }
        } else {
            visit(&path);
        }
    }
}

/// The code of Rust source: comments and the contents of strings become spaces, line breaks stay,
/// so that lines keep their numbers.
#[must_use]
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment or literal that begins at `at`, or `at` itself.
fn skip(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    let inside_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], next) {
        ('/', Some('/')) => find(chars, at, |c| c == '\n'),
        ('/', Some('*')) => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at),
        ('r', Some('"' | '#')) if !inside_word => raw_string_end(chars, at),
        ('\'', Some('\\')) => find(chars, at + 3, |c| c == '\'') + 1,
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|i| wanted(chars[*i])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// The end of `r"…"` or `r#"…"#`; `at` itself for a raw identifier such as `r#type`.
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let open = find(chars, at + 1, |c| c != '#');
    if chars.get(open) != Some(&'"') {
        return at;
    }
    let hashes = open - at - 1;
    let mut i = open + 1;
    while i < chars.len() {
        let closing = chars[i] == '"'
            && i + hashes < chars.len()
            && chars[i + 1..=i + hashes].iter().all(|c| *c == '#');
        if closing {
            return i + hashes + 1;
        }
        i += 1;
    }
    chars.len()
}

/// `code` with every inline `#[cfg(test)] mod name { … }` blanked: unit tests may name anything.
#[must_use]
pub fn without_unit_tests(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        from = start + "#[cfg(test)]".len();
        let rest = out[from..].trim_start();
        if !(rest.starts_with("mod ") || rest.starts_with("pub mod ")) {
            continue;
        }
        let Some(open) = out[from..].find(['{', ';']).map(|i| from + i) else { continue };
        if out[open..].starts_with(';') {
            continue;
        }
        let end = closing_brace(&out, open);
        let blank: String =
            out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0_u32;
    for (i, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + i + 1;
        }
    }
    code.len()
}

/// Whether a file holds nothing but unit tests (`tests.rs`, or below a folder `tests`).
#[must_use]
pub fn is_unit_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("_tests.rs")
}

/// The names directly below the crate's root that a file refers to by `crate::…` or by `super::`
/// chains that climb to the root, each with the first line that does so.
///
/// `module` is the file's own module path (`["store", "keys"]` for `store/keys.rs`); `code` is
/// without comments and strings.
#[must_use]
pub fn root_references(module: &[&str], code: &str) -> BTreeMap<String, usize> {
    let tokens = tokens(code);
    let mut found = BTreeMap::new();
    let mut i = 0;
    while i < tokens.len() {
        let (word, line) = tokens[i];
        let continues_a_path = i > 0 && tokens[i - 1].0 == "::";
        i += 1;
        let climbed = match word {
            "crate" if !continues_a_path => true,
            "super" if !continues_a_path => {
                let mut depth = module.len();
                depth = depth.saturating_sub(1);
                while tokens.get(i).is_some_and(|t| t.0 == "::")
                    && tokens.get(i + 1).is_some_and(|t| t.0 == "super")
                {
                    depth = depth.saturating_sub(1);
                    i += 2;
                }
                depth == 0
            }
            _ => false,
        };
        if climbed && tokens.get(i).is_some_and(|t| t.0 == "::") {
            for name in names_after(&tokens[i + 1..]) {
                found.entry(name.to_owned()).or_insert(line);
            }
        }
    }
    found
}

/// The first names of a path or of a braced group of paths.
fn names_after<'t>(tokens: &[(&'t str, usize)]) -> Vec<&'t str> {
    let Some((first, _)) = tokens.first() else { return Vec::new() };
    if *first != "{" {
        return vec![first];
    }
    let mut depth = 1;
    let mut names = Vec::new();
    let mut expects_a_name = true;
    for (word, _) in &tokens[1..] {
        match *word {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => expects_a_name = true,
            name if depth == 1 && expects_a_name => {
                names.push(name);
                expects_a_name = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Words, `::` and single other characters, each with its line, spaces left out.
fn tokens(code: &str) -> Vec<(&str, usize)> {
    let mut out = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        let length = if c.is_alphanumeric() || c == '_' {
            code[at..].find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(code.len() - at)
        } else if code[at..].starts_with("::") {
            2
        } else {
            c.len_utf8()
        };
        if c == '\n' {
            line += 1;
        }
        if !c.is_whitespace() {
            out.push((&code[at..at + length], line));
        }
        at += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "let a = \"crate::dsl\"; // crate::dsl\nlet b = r#\"crate::task\"#; /* x */ b";
        let code = code(text);
        assert!(!code.contains("crate"), "{code}");
        assert_eq!(code.lines().count(), 2);
        assert!(code.contains("let b ="));
    }

    #[test]
    fn characters_and_lifetimes_are_told_apart() {
        let code = code("fn f<'a>(x: &'a str) { let q = '\"'; let s = '\\''; crate::dsl::f(x) }");
        assert!(code.contains("crate::dsl"), "{code}");
        assert!(!code.contains('"'), "{code}");
    }

    #[test]
    fn groups_and_super_chains_reach_the_root() {
        let code = "use crate::{record::Record, store::{A, B}, time};\nuse super::super::dsl::X;";
        let names = root_references(&["store", "keys"], code);
        let names: Vec<_> = names.keys().map(String::as_str).collect();
        assert_eq!(names, ["dsl", "record", "store", "time"]);
    }

    #[test]
    fn a_super_that_stays_below_the_root_is_no_reference() {
        assert!(root_references(&["store", "keys"], "use super::window::W;").is_empty());
    }

    #[test]
    fn unit_tests_are_cut_out() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n use crate::testing;\n}\nfn b() {}";
        let cut = without_unit_tests(code);
        assert!(!cut.contains("testing"));
        assert!(cut.contains("fn b()"));
    }
}
