//! A real schema registry for tests: Apicurio with Confluent's interface, from the cache, on
//! loopback, in memory. It dies with the test process. This module knows nothing of schemas.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::Child;
use crate::proof::say;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A registry that this test process started.
#[derive(Debug)]
pub struct SchemaRegistry {
    url: String,
    process: Mutex<Option<Child>>,
}

impl SchemaRegistry {
    /// A registry of the caller's own; new subjects are BACKWARD compatible. `None` when Java or
    /// the registry is missing, after saying loudly what was not run and how to get it; where `CI`
    /// is set, that is a failure.
    ///
    /// # Panics
    /// When the registry does not come up, or under `CI` when it cannot be had.
    #[must_use]
    pub fn start() -> Option<Self> {
        let (java, jar) = match find() {
            Ok(found) => found,
            Err(missing) => {
                let line = format!(
                    "NOT RUN: tests on a real schema registry, because {missing}; \
                     `scripts/deps.sh test` installs it"
                );
                assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{line}");
                say(&line);
                return None;
            }
        };
        let mut command = Command::new(java);
        command
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dquarkus.http.host=127.0.0.1", "-Dquarkus.http.port=0", "-jar"])
            .arg(&jar)
            .current_dir(jar.parent().unwrap_or(Path::new(".")));
        let mut child = Child::start("the schema registry", &command);
        let line = child.wait_for_line(READY_WITHIN, |line| line.contains("Listening on: http://"));
        let host = line.split("Listening on: http://").nth(1).unwrap_or_default();
        let host = host.split_whitespace().next().unwrap_or_default().to_owned();
        let registry = Self {
            url: format!("http://{host}/apis/ccompat/v7"),
            process: Mutex::new(Some(child)),
        };
        registry.set_compatibility("BACKWARD");
        Some(registry)
    }

    /// What clients are given as the registry's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks the registry to stop in order, and waits for it.
    ///
    /// # Panics
    /// When it does not stop in time.
    pub fn stop(&self) {
        let child = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(child) = child {
            child.terminate(STOP_WITHIN);
        }
    }

    /// Apicurio accepts anything unless told otherwise; Confluent's default is BACKWARD.
    fn set_compatibility(&self, level: &str) {
        let answer: Value = ureq::put(format!("{}/config", self.url))
            .send_json(json!({"compatibility": level}))
            .and_then(|mut answer| answer.body_mut().read_json())
            .expect("the registry takes its compatibility");
        assert_eq!(answer["compatibility"], level);
    }
}

fn find() -> Result<(PathBuf, PathBuf), String> {
    let cache = env::var_os("HEADWATER_CACHE").map(PathBuf::from).or_else(|| {
        env::var_os("HOME").map(|home| Path::new(&home).join(".cache").join("headwater"))
    });
    let cache = cache.ok_or("neither HEADWATER_CACHE nor HOME is set")?;
    let folder = cache.join("jars").join("apicurio-registry-2.6.13");
    let jar = folder.join("apicurio-registry-app-2.6.13.Final-runner.jar");
    if !jar.is_file() {
        return Err("the registry is not in the cache".into());
    }
    let java = env::var_os("JAVA_HOME")
        .map_or_else(|| "java".into(), |home| Path::new(&home).join("bin").join("java"));
    match Command::new(&java).arg("-version").output() {
        Ok(output) if output.status.success() => Ok((java, jar)),
        _ => Err("there is no Java here".into()),
    }
}
