//! A broker that lets nobody in without a name: SASL over TLS, TLS with certificates of clients, and
//! rights for each user. The plain listener is the administrator's. Its certificates are made by
//! `openssl` for this run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::installation::Installation;
use super::node::{Node, free_port};
use super::rights::{Right, grant};
use super::{KafkaBroker, VERSION, scratch};

/// Users that may log in; what each may do is for [`SecuredBroker::grant`] to say.
pub const USERS: [&str; 8] = [
    "alice",
    "no-read",
    "no-write",
    "no-group",
    "no-transactions",
    "no-create",
    "no-describe",
    "nobody",
];

/// The password of a user.
#[must_use]
pub fn password(user: &str) -> String {
    format!("{user}-secret")
}

/// A broker that lets nobody in without a name, and its users.
#[derive(Debug)]
pub struct SecuredBroker {
    broker: KafkaBroker,
    sasl_port: u16,
    tls_port: u16,
    tls: PathBuf,
    granted: Mutex<usize>,
}

impl SecuredBroker {
    /// Starts it; killed when dropped. `None` as for [`KafkaBroker::shared`].
    ///
    /// # Panics
    /// When it does not come up, or there is no `openssl`.
    #[must_use]
    pub fn start() -> Option<Self> {
        let installation = Installation::find(VERSION)?;
        let scratch = scratch();
        let tls = scratch.path().join("tls");
        make_certificates(&tls);
        let (sasl_port, tls_port) = (free_port(), free_port());
        let single = Node::single();
        let node = Node {
            listeners: vec![("SASL", "SASL_SSL", sasl_port), ("TLS", "SSL", tls_port)],
            properties: properties(&tls),
            scram: USERS.iter().flat_map(|user| scram(user)).collect(),
            ..single
        };
        let broker = KafkaBroker::format_in(&installation, node, scratch);
        broker.launch();
        Some(Self { broker, sasl_port, tls_port, tls, granted: Mutex::new(0) })
    }

    /// The same broker by its plain listener, where everybody is the administrator.
    #[must_use]
    pub fn plain(&self) -> &KafkaBroker {
        &self.broker
    }

    /// SASL over TLS: `PLAIN`, `SCRAM-SHA-256` and `SCRAM-SHA-512`.
    #[must_use]
    pub fn sasl_address(&self) -> String {
        format!("localhost:{}", self.sasl_port)
    }

    /// TLS with a certificate of the client, who is then `CN=client`.
    #[must_use]
    pub fn tls_address(&self) -> String {
        format!("localhost:{}", self.tls_port)
    }

    /// The authority that signed the broker's certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.tls.join("ca.pem")
    }

    /// An authority that signed nothing here.
    #[must_use]
    pub fn other_authority(&self) -> PathBuf {
        self.tls.join("other.pem")
    }

    /// The client's certificate and its key.
    #[must_use]
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        (self.tls.join("client.pem"), self.tls.join("client.key"))
    }

    /// Gives rights.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn grant(&self, rights: &[Right<'_>]) {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        grant(&self.broker.address(), rights, *granted);
        *granted += rights.len();
    }
}

fn scram(user: &str) -> [String; 2] {
    let password = password(user);
    ["SCRAM-SHA-256", "SCRAM-SHA-512"]
        .map(|mechanism| format!("{mechanism}=[name={user},password={password}]"))
}

fn properties(tls: &Path) -> Vec<(String, String)> {
    let login = |module: &str, more: &str| {
        format!("org.apache.kafka.common.security.{module} required{more};")
    };
    let users: String =
        USERS.iter().map(|user| format!(" user_{user}=\"{}\"", password(user))).collect();
    let scram = login("scram.ScramLoginModule", "");
    let file = |name: &str| tls.join(name).display().to_string();
    let mut properties: Vec<(&str, String)> = vec![
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer".into()),
        ("super.users", "User:ANONYMOUS;User:CN=client".into()),
        ("listener.name.sasl.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".into()),
        ("listener.name.sasl.plain.sasl.jaas.config", login("plain.PlainLoginModule", &users)),
        ("listener.name.sasl.scram-sha-256.sasl.jaas.config", scram.clone()),
        ("listener.name.sasl.scram-sha-512.sasl.jaas.config", scram),
        ("listener.name.sasl.ssl.client.auth", "none".into()),
        ("listener.name.tls.ssl.client.auth", "required".into()),
    ];
    let mut properties: Vec<(String, String)> =
        properties.drain(..).map(|(name, value)| (name.to_owned(), value)).collect();
    for listener in ["sasl", "tls"] {
        for (name, value) in [
            ("keystore.type", "PEM".to_owned()),
            ("keystore.location", file("broker.store")),
            ("truststore.type", "PEM".to_owned()),
            ("truststore.location", file("ca.pem")),
        ] {
            properties.push((format!("listener.name.{listener}.ssl.{name}"), value));
        }
    }
    properties
}

/// An authority, certificates of the broker and of a client that it signed, and another authority.
fn make_certificates(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder can be made");
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        .expect("written");
    for authority in ["ca", "other"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
                 -subj /CN=headwater-{authority} -keyout {authority}.key -out {authority}.pem"
            ),
        );
    }
    for name in ["broker", "client"] {
        openssl(
            folder,
            &format!(
                "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} \
                 -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 \
                 -extfile names -out {name}.pem"
            ),
        );
    }
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("openssl wrote it");
    fs::write(folder.join("broker.store"), read("broker.key") + &read("broker.pem"))
        .expect("written");
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl is installed (scripts/deps.sh test)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {said}");
}
