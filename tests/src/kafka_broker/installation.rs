//! Java and Kafka's jars on this machine. Knows no broker in particular.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::proof::say;

/// Java, and the jars of one version of Kafka.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    java: PathBuf,
    jars: PathBuf,
}

impl Installation {
    /// `None` when Java or the jars are missing, after saying loudly what was not run; where `CI` is
    /// set, that is a failure.
    pub(super) fn find(version: &str) -> Option<Self> {
        match Self::look(version) {
            Ok(installation) => Some(installation),
            Err(missing) => {
                let line = format!(
                    "NOT RUN: tests on a real Kafka {version} broker, because {missing}; \
                     `scripts/deps.sh test` installs it"
                );
                assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{line}");
                say(&line);
                None
            }
        }
    }

    fn look(version: &str) -> Result<Self, String> {
        let cache = env::var_os("HEADWATER_CACHE").map(PathBuf::from).or_else(|| {
            env::var_os("HOME").map(|home| Path::new(&home).join(".cache").join("headwater"))
        });
        let cache = cache.ok_or("neither HEADWATER_CACHE nor HOME is set")?;
        let jars = cache.join("jars").join(format!("kafka-{version}"));
        if !jars.is_dir() {
            return Err("Kafka's jars are not in the cache".into());
        }
        let java = env::var_os("JAVA_HOME")
            .map_or_else(|| "java".into(), |home| Path::new(&home).join("bin").join("java"));
        match Command::new(&java).arg("-version").output() {
            Ok(output) if output.status.success() => Ok(Self { java, jars }),
            _ => Err("there is no Java here".into()),
        }
    }

    /// A Java command with Kafka on its class path, and the main class still to be named.
    pub(super) fn java(&self, heap_mib: u32) -> Command {
        let mut command = Command::new(&self.java);
        command
            .arg(format!("-Xmx{heap_mib}m"))
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(self.jars.join("*"));
        command
    }
}
