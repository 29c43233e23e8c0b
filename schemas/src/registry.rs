//! The schema registry, over HTTP: Confluent's REST interface, which others speak too.
//!
//! Owns subjects, the one way in which a schema is registered, and what a registry's answers mean.
//! It must not know events: schemas come as text. The calls are async and belong to services; a
//! topology never waits for a registry.

use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, get_schema_by_subject, is_compatible_schema, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RawError, RegisteredSchema, SchemaType, SubjectNameStrategy, SuppliedSchema,
};
use std::error::Error as _;
use tracing::info;

use crate::catalogue::subject;

/// How long one call may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a registry did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The address is not one, or the client cannot be made.
    #[error("schema registry {url}: {reason}; set SCHEMA_REGISTRY_URL to its http address")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answered, or the registry says it cannot now. Try again later.
    #[error("schema registry does not answer: {reason}; is it running and reachable?")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// The token is missing or wrong.
    #[error("schema registry refused the caller (http {status}); set SCHEMA_REGISTRY_API_KEY")]
    Unauthorized {
        /// 401 or 403.
        status: u16,
    },
    /// There is no such subject, version or id.
    #[error("schema registry knows no {what}; register it first")]
    NotFound {
        /// The subject or the id.
        what: String,
    },
    /// The schema may not follow those that are there. Nothing was registered.
    #[error(
        "schema of subject {subject} is not compatible with its versions; nothing was registered: {reason}"
    )]
    Incompatible {
        /// The subject.
        subject: String,
        /// What the registry says.
        reason: String,
    },
    /// The registry cannot read the schema.
    #[error("schema registry cannot read the schema of subject {subject}: {reason}")]
    Invalid {
        /// The subject.
        subject: String,
        /// What the registry says.
        reason: String,
    },
    /// Anything else.
    #[error("schema registry answered to {what}: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// What came.
        reason: String,
    },
}

impl RegistryError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// A registry's client. Cheap to clone; connections are pooled.
#[derive(Debug, Clone)]
pub struct Registry {
    settings: SrSettings,
}

/// A schema as the registry holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What values in the wire format begin with.
    pub id: u32,
    /// The schema's text.
    pub schema: String,
}

impl Registry {
    /// The registry at `url`; `token` is sent as a bearer token with every call.
    ///
    /// # Errors
    /// [`RegistryError::Address`]. Nobody is called yet.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, RegistryError> {
        let address = |reason: String| RegistryError::Address { url: url.to_owned(), reason };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(address("must begin with http:// or https://".to_owned()));
        }
        let mut builder = SrSettings::new_builder(url.trim_end_matches('/').to_owned());
        builder.set_timeout(TIMEOUT);
        if let Some(token) = token {
            builder.set_token_authorization(token);
        }
        let settings = builder.build().map_err(|error| address(reason(&error)))?;
        Ok(Self { settings })
    }

    /// Registers `schema` for `event_type`, after asking whether it may follow the versions that
    /// are there; a schema that is there already gets its id again.
    ///
    /// # Errors
    /// [`RegistryError::Incompatible`]: nothing was registered. [`RegistryError::Unavailable`]:
    /// the answer is unknown; the call may be repeated, it registers once.
    pub async fn evolve(&self, event_type: &str, schema: &str) -> Result<u32, RegistryError> {
        let name = subject(event_type);
        if !self.is_compatible(event_type, schema).await? {
            let reason = "the registry's compatibility check says no".to_owned();
            return Err(RegistryError::Incompatible { subject: name, reason });
        }
        let registered = post_schema(&self.settings, name.clone(), supplied(schema))
            .await
            .map_err(|error| classify(&name, &error))?;
        info!(subject = name, id = registered.id, "schema is registered");
        Ok(registered.id)
    }

    /// Whether `schema` may follow the versions of `event_type`, under the mode that the registry
    /// holds for it. A subject without versions accepts any schema.
    ///
    /// # Errors
    /// As [`Registry::evolve`].
    pub async fn is_compatible(
        &self,
        event_type: &str,
        schema: &str,
    ) -> Result<bool, RegistryError> {
        let name = subject(event_type);
        match is_compatible_schema(&self.settings, name.clone(), supplied(schema)).await {
            Ok(compatible) => Ok(compatible),
            Err(error) => match classify(&name, &error) {
                RegistryError::NotFound { .. } => Ok(true),
                other => Err(other),
            },
        }
    }

    /// The newest schema of `event_type`.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] when none was registered.
    pub async fn latest(&self, event_type: &str) -> Result<Registered, RegistryError> {
        let name = subject(event_type);
        let strategy = SubjectNameStrategy::RecordNameStrategy(name.clone());
        get_schema_by_subject(&self.settings, &strategy)
            .await
            .map(registered)
            .map_err(|error| classify(&name, &error))
    }

    /// The schema with this id, as a value in the wire format names it.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] when there is none.
    pub async fn by_id(&self, id: u32) -> Result<Registered, RegistryError> {
        get_schema_by_id(id, &self.settings)
            .await
            .map(registered)
            .map_err(|error| classify(&format!("schema id {id}"), &error))
    }
}

fn supplied(schema: &str) -> SuppliedSchema {
    SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned())
}

fn registered(schema: RegisteredSchema) -> Registered {
    Registered { id: schema.id, schema: schema.schema }
}

fn reason(error: &SRCError) -> String {
    match &error.cause {
        Some(cause) => format!("{} ({cause})", error.error),
        None => error.error.clone(),
    }
}

/// What an error means. The client hides the status but in its text; the registry's own code, of
/// which the first three digits are the status, is asked first.
fn classify(what: &str, error: &SRCError) -> RegistryError {
    let reason = reason(error);
    let answered = error.source().and_then(|source| source.downcast_ref::<RawError>());
    let status = match answered {
        Some(raw) if raw.error_code >= 10_000 => raw.error_code / 100,
        Some(raw) if raw.error_code >= 100 => raw.error_code,
        _ => status_in(&error.error).unwrap_or(0),
    };
    let what = what.to_owned();
    match status {
        401 | 403 => RegistryError::Unauthorized { status: if status == 401 { 401 } else { 403 } },
        404 => RegistryError::NotFound { what },
        409 => RegistryError::Incompatible { subject: what, reason },
        422 => RegistryError::Invalid { subject: what, reason },
        0 if answered.is_none() => RegistryError::Unavailable { reason },
        429 | 500.. => RegistryError::Unavailable { reason },
        _ => RegistryError::Refused { what, reason },
    }
}

/// The number after `status`.
fn status_in(text: &str) -> Option<u32> {
    text.split_once("status ")?.1.split_whitespace().next()?.parse().ok()
}
