//! The environment, read once and in one place. Owns the variables' names and forms; knows nothing
//! of what they are for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{
    ConfigError, GroupConfig, GroupProtocol, HostConfig, KafkaConfig, MembershipKind,
    ProcessingGuarantee, Secret, StreamsConfig, all_well,
};

/// The variables, one line each, for `--help`.
pub const HELP: &str = "\
KAFKA_BROKERS         bootstrap brokers, host:port separated by commas; unset runs embedded
KAFKA_SSL             TLS is on when exactly 'true'
KAFKA_SSL_CA, KAFKA_SSL_CERT, KAFKA_SSL_KEY   files of the authority, the certificate and its key
KAFKA_USERNAME, KAFKA_PASSWORD                SASL is on when a user is named
KAFKA_SASL_MECHANISM  PLAIN (default), SCRAM-SHA-256 or SCRAM-SHA-512
KAFKA_PROPERTIES_FILE file of further librdkafka properties, name=value a line, # comments
KAFKA_PROPERTIES      the same, name=value separated by commas; goes before the file
KAFKA_PROPERTY_<NAME> one property, KAFKA_PROPERTY_LINGER_MS for linger.ms; goes before both
KAFKA_MEMBERSHIP      consumer_group (default): processes share the tasks; single: this one has all
KAFKA_GROUP_PROTOCOL  classic (default, static membership) or consumer (KIP-848, Kafka 4.0)
KAFKA_SESSION_TIMEOUT_MS      silence after which others take the tasks over (30000; classic)
KAFKA_REBALANCE_TIMEOUT_MS    time to commit and close tasks that are given up (60000)
KAFKA_INSTANCE_ID     name of this process in its group; unset: made once, kept in STATE_DIR
STATE_DIR             where state lives (headwater-state)
APPLICATION_ID        the application id, in place of the topology's own
COMMIT_INTERVAL_MS    how often a thread commits, in milliseconds (100)
PROCESSING_GUARANTEE  exactly_once_v2 (default) or at_least_once; embedded is always exactly once
THREADS               stream threads of each application (1)
AUDIT                 outputs are stamped for the command audit when exactly 'true'
MEMORY_LIMIT          all memory of caches, uncommitted state and queues, in bytes, or 256MiB, 1GiB
HTTP_ADDR             where the HTTP server listens (127.0.0.1:8080); 'off' starts none
HTTP_TOKEN            token that HTTP writers must show";

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The process's settings.
    pub host: HostConfig,
    /// `APPLICATION_ID`.
    pub application_id: Option<String>,
    /// `COMMIT_INTERVAL_MS`.
    pub commit_interval: Option<Duration>,
    /// `PROCESSING_GUARANTEE`.
    pub processing_guarantee: Option<ProcessingGuarantee>,
    /// `THREADS`.
    pub threads: Option<usize>,
    /// `AUDIT`.
    pub audit: Option<bool>,
}

impl Environment {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// All mistakes at once; nothing is guessed.
    pub fn read() -> Result<Self, ConfigError> {
        Self::parse(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        }))
    }

    /// Reads these variables; others than those of [`HELP`] are left alone, empty ones count as
    /// unset.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn parse(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let mut reader = Reader { variables, mistakes: Vec::new() };
        let defaults = HostConfig::default();
        let host = HostConfig {
            state_dir: reader.text("STATE_DIR").map_or(defaults.state_dir, PathBuf::from),
            kafka: reader.kafka(),
            memory_limit: reader.memory().unwrap_or(defaults.memory_limit),
            http: match reader.text("HTTP_ADDR").as_deref() {
                None => defaults.http,
                Some("off") => None,
                Some(_) => reader.number::<SocketAddr>("HTTP_ADDR", "an address like 127.0.0.1:80"),
            },
            http_token: reader.text("HTTP_TOKEN").map(Secret::new),
            insecure: false,
            stop_timeout: defaults.stop_timeout,
        };
        let read = Self {
            host,
            application_id: reader.text("APPLICATION_ID"),
            commit_interval: reader
                .number("COMMIT_INTERVAL_MS", "a number of milliseconds")
                .map(Duration::from_millis),
            processing_guarantee: reader
                .number("PROCESSING_GUARANTEE", "exactly_once_v2 or at_least_once"),
            threads: reader.number("THREADS", "a number of threads"),
            audit: reader.text("AUDIT").map(|text| text == "true"),
        };
        all_well(reader.mistakes).map(|()| read)
    }

    /// Puts what the environment says over an application's settings.
    pub fn apply(&self, config: &mut StreamsConfig) {
        if let Some(id) = &self.application_id {
            config.application_id.clone_from(id);
        }
        config.commit_interval = self.commit_interval.unwrap_or(config.commit_interval);
        config.processing_guarantee =
            self.processing_guarantee.unwrap_or(config.processing_guarantee);
        config.threads = self.threads.unwrap_or(config.threads);
        config.audit = self.audit.unwrap_or(config.audit);
    }
}

struct Reader {
    variables: BTreeMap<String, String>,
    mistakes: Vec<String>,
}

impl Reader {
    fn text(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn number<T: FromStr>(&mut self, name: &str, form: &str) -> Option<T> {
        let text = self.text(name)?;
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            self.mistakes.push(format!("{name}='{text}' is not {form}"));
        }
        parsed
    }

    fn memory(&mut self) -> Option<usize> {
        let text = self.text("MEMORY_LIMIT")?;
        let bytes = parse_bytes(&text);
        if bytes.is_none() {
            self.mistakes.push(format!("MEMORY_LIMIT='{text}' is not a size like 256MiB"));
        }
        bytes
    }

    /// The properties of librdkafka, one of each name: the file's, over them the list's, over them
    /// the single variables'.
    fn properties(&mut self) -> Vec<(String, String)> {
        let mut all = BTreeMap::new();
        if let Some(path) = self.text("KAFKA_PROPERTIES_FILE") {
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let lines = text.lines().map(str::trim).enumerate();
                    let lines = lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
                    for (number, line) in lines {
                        self.property(&format!("{path}:{}", number + 1), line, &mut all);
                    }
                }
                Err(error) => {
                    self.mistakes.push(format!("KAFKA_PROPERTIES_FILE='{path}': {error}"));
                }
            }
        }
        for pair in split(&self.text("KAFKA_PROPERTIES").unwrap_or_default()) {
            self.property("KAFKA_PROPERTIES", pair, &mut all);
        }
        for (variable, value) in &self.variables {
            if let Some(name) = variable.strip_prefix("KAFKA_PROPERTY_") {
                all.insert(name.to_ascii_lowercase().replace('_', "."), value.clone());
            }
        }
        all.into_iter().collect()
    }

    /// `name=value`; a name may begin with `kafka.`, as in files that hold other settings too.
    fn property(&mut self, place: &str, pair: &str, into: &mut BTreeMap<String, String>) {
        match pair.split_once('=') {
            Some((name, value)) => {
                let name = name.trim();
                let name = name.strip_prefix("kafka.").unwrap_or(name);
                into.insert(name.to_owned(), value.trim().to_owned());
            }
            None => self.mistakes.push(format!("{place}: '{pair}' is not name=value")),
        }
    }

    fn kafka(&mut self) -> Option<KafkaConfig> {
        let brokers = self.text("KAFKA_BROKERS")?;
        let properties = self.properties();
        Some(KafkaConfig {
            brokers: split(&brokers).map(str::to_owned).collect(),
            ssl: self.text("KAFKA_SSL").as_deref() == Some("true"),
            ssl_ca: self.text("KAFKA_SSL_CA").map(PathBuf::from),
            ssl_cert: self.text("KAFKA_SSL_CERT").map(PathBuf::from),
            ssl_key: self.text("KAFKA_SSL_KEY").map(PathBuf::from),
            username: self.text("KAFKA_USERNAME"),
            password: self.text("KAFKA_PASSWORD").map(Secret::new),
            sasl_mechanism: self.text("KAFKA_SASL_MECHANISM").map(|m| m.to_ascii_uppercase()),
            properties,
            group: self.group(),
        })
    }

    fn group(&mut self) -> GroupConfig {
        let defaults = GroupConfig::default();
        let kinds =
            [("consumer_group", MembershipKind::ConsumerGroup), ("single", MembershipKind::Single)];
        let protocols =
            [("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)];
        let mut millis = |name, default| {
            self.number(name, "a number of milliseconds").map_or(default, Duration::from_millis)
        };
        let session_timeout = millis("KAFKA_SESSION_TIMEOUT_MS", defaults.session_timeout);
        let rebalance = defaults.rebalance_timeout.max(session_timeout);
        GroupConfig {
            session_timeout,
            rebalance_timeout: millis("KAFKA_REBALANCE_TIMEOUT_MS", rebalance),
            membership: self.one_of("KAFKA_MEMBERSHIP", &kinds).unwrap_or_default(),
            protocol: self.one_of("KAFKA_GROUP_PROTOCOL", &protocols).unwrap_or_default(),
            instance_id: self.text("KAFKA_INSTANCE_ID"),
        }
    }

    fn one_of<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.mistakes.push(format!("{name}='{text}' is not {}", words.join(" or ")));
        }
        found
    }
}

/// The items of a list.
fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// `268435456`, `256MiB`, `1 GiB`.
fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Environment, ConfigError> {
        Environment::parse(variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn without_brokers_the_host_is_embedded() {
        let environment = parse(&[("STATE_DIR", "/data"), ("KAFKA_SSL", "true")]).expect("valid");
        assert_eq!(environment.host.kafka, None);
        assert_eq!(environment.host.state_dir, PathBuf::from("/data"));
    }

    #[test]
    fn brokers_make_it_kafka_and_tls_is_on_only_when_exactly_true() {
        let read =
            |ssl| parse(&[("KAFKA_BROKERS", "a:1, b:2"), ("KAFKA_SSL", ssl)]).expect("valid");
        let kafka = read("TRUE").host.kafka.expect("kafka");
        assert_eq!(kafka.brokers, ["a:1", "b:2"]);
        assert!(!kafka.ssl);
        assert!(read("true").host.kafka.expect("kafka").ssl);
    }

    #[test]
    fn membership_is_a_classic_group_unless_it_says_otherwise() {
        let read = |variables: &[(&str, &str)]| {
            let mut all = vec![("KAFKA_BROKERS", "a:1")];
            all.extend(variables);
            parse(&all).map(|environment| environment.host.kafka.expect("kafka").group)
        };
        assert_eq!(read(&[]).expect("valid"), GroupConfig::default());
        let group = read(&[
            ("KAFKA_MEMBERSHIP", "single"),
            ("KAFKA_GROUP_PROTOCOL", "consumer"),
            ("KAFKA_SESSION_TIMEOUT_MS", "90000"),
            ("KAFKA_INSTANCE_ID", "pod-1"),
        ])
        .expect("valid");
        assert_eq!(group.membership, MembershipKind::Single);
        assert_eq!(group.protocol, GroupProtocol::Consumer);
        assert_eq!(group.rebalance_timeout, Duration::from_secs(90), "it covers the session");
        assert_eq!(group.instance_id.as_deref(), Some("pod-1"));
        let error = read(&[("KAFKA_MEMBERSHIP", "many"), ("KAFKA_GROUP_PROTOCOL", "streams")])
            .expect_err("two mistakes");
        assert_eq!(error.mistakes.len(), 2, "{error}");
    }

    #[test]
    fn a_property_of_its_own_variable_goes_before_the_list_and_the_list_before_the_file() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let file = folder.path().join("kafka.properties");
        let text = "# clients\nlinger.ms=1\n\n kafka.client.rack = r1\nbatch.size=2\n";
        std::fs::write(&file, text).expect("written");
        let read = |list: &str| {
            parse(&[
                ("KAFKA_BROKERS", "a:1"),
                ("KAFKA_PROPERTIES_FILE", &file.to_string_lossy()),
                ("KAFKA_PROPERTIES", list),
                ("KAFKA_PROPERTY_LINGER_MS", "3"),
            ])
        };
        let kafka = read("linger.ms=2,batch.size=4").expect("valid").host.kafka.expect("kafka");
        let pairs = [("batch.size", "4"), ("client.rack", "r1"), ("linger.ms", "3")];
        assert_eq!(kafka.properties, pairs.map(|(n, v)| (n.to_owned(), v.to_owned())));
        let error = read("linger.ms").expect_err("no value");
        assert!(error.to_string().contains("KAFKA_PROPERTIES: 'linger.ms' is not name=value"));
        let missing = [("KAFKA_BROKERS", "a:1"), ("KAFKA_PROPERTIES_FILE", "/no/such")];
        assert!(parse(&missing).expect_err("no file").to_string().contains("/no/such"));
    }

    #[test]
    fn sizes_have_units_and_wrong_ones_are_all_named() {
        assert_eq!(parse(&[("MEMORY_LIMIT", "1 GiB")]).expect("valid").host.memory_limit, 1 << 30);
        let error = parse(&[("MEMORY_LIMIT", "much"), ("THREADS", "-1"), ("HTTP_ADDR", "here")])
            .expect_err("three mistakes");
        assert_eq!(error.mistakes.len(), 3, "{error}");
    }

    #[test]
    fn the_environment_overrides_the_application() {
        let mut config = StreamsConfig::new("rollups");
        let variables = [
            ("COMMIT_INTERVAL_MS", "25"),
            ("THREADS", "4"),
            ("PROCESSING_GUARANTEE", "at_least_once"),
        ];
        parse(&variables).expect("valid").apply(&mut config);
        assert_eq!(config.processing_guarantee, ProcessingGuarantee::AtLeastOnce);
        assert_eq!((config.commit_interval, config.threads), (Duration::from_millis(25), 4));
        assert_eq!(config.application_id, "rollups");
    }
}
