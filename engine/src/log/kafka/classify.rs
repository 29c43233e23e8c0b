//! What each error of librdkafka means to the engine: one table from error code to [`ErrorClass`]
//! with a word on what to do. Owns the wording of Kafka's errors; knows no client and no call.
//!
//! A transactional call answers with three flags besides the code, which go before the table:
//!
//! | flag | class |
//! |---|---|
//! | fatal, and the table says `Fenced` or `Fatal` | as the table says |
//! | fatal, any other code | nobody knows: the producer is opened anew and reads what is committed |
//! | the transaction must be aborted | `Abort` where the table says `Retry`, else as it says |
//! | none of them | as the table says |

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::ffi::group::TransactionError;
use crate::error::ErrorClass;
use crate::log::LogError;

/// Codes that mean the same to a caller.
pub(super) struct Row {
    /// What the caller does.
    pub class: ErrorClass,
    /// What a person can do, where a program cannot.
    pub advice: &'static str,
    /// Whose codes these are.
    pub codes: &'static [Code],
}

const fn row(class: ErrorClass, advice: &'static str, codes: &'static [Code]) -> Row {
    Row { class, advice, codes }
}

/// The table. A code that is in no row (a newer broker's) is `Fatal`: what is not understood is not
/// retried.
pub(super) const TABLE: &[Row] = &[
    row(
        ErrorClass::Retry,
        "a broker is away, moving or busy; it is tried again",
        &[
            Code::BrokerTransportFailure,
            Code::BrokerDestroy,
            Code::DestroyBroker,
            Code::AllBrokersDown,
            Code::Resolve,
            Code::NodeUpdate,
            Code::WaitingForCoordinator,
            Code::WaitCache,
            Code::UnknownBroker,
            Code::LeaderNotAvailable,
            Code::NotLeaderForPartition,
            Code::BrokerNotAvailable,
            Code::ReplicaNotAvailable,
            Code::StaleControllerEpoch,
            Code::NetworkException,
            Code::CoordinatorLoadInProgress,
            Code::CoordinatorNotAvailable,
            Code::NotCoordinator,
            Code::NotController,
            Code::NotEnoughReplicas,
            Code::NotEnoughReplicasAfterAppend,
            Code::ISRInsufficient,
            Code::ListenerNotFound,
            Code::FencedLeaderEpoch,
            Code::UnknownLeaderEpoch,
            Code::StaleBrokerEpoch,
            Code::OffsetNotAvailable,
            Code::PreferredLeaderNotAvailable,
            Code::EligibleLeadersNotAvailable,
            Code::ReassignmentInProgress,
            Code::NoReassignmentInProgress,
            Code::ElectionNotNeeded,
            Code::KafkaStorageError,
            Code::ThrottlingQuotaExceeded,
            Code::RebootstrapRequired,
            Code::UnknownTopicId,
            Code::FetchSessionIdNotFound,
            Code::InvalidFetchSessionEpoch,
            Code::OperationNotAttempted,
            Code::RebalanceInProgress,
        ],
    ),
    row(
        ErrorClass::Retry,
        "it took longer than allowed; it is tried again",
        &[
            Code::OperationTimedOut,
            Code::TimedOutQueue,
            Code::RequestTimedOut,
            Code::QueueFull,
            Code::InProgress,
            Code::PreviousInProgress,
            Code::ConcurrentTransactions,
            Code::UnstableOffsetCommit,
            Code::Retry,
            Code::Interrupted,
            Code::Partial,
            Code::Outdated,
            Code::PartitionEOF,
            Code::NoOffset,
            Code::Noop,
        ],
    ),
    row(
        ErrorClass::Abort,
        "the transaction is lost and done again",
        &[
            Code::MessageTimedOut,
            Code::PurgeQueue,
            Code::PurgeInflight,
            Code::InvalidDifferentRecord,
            Code::GaplessGuarantee,
            Code::Inconsistent,
            Code::OutOfOrderSequenceNumber,
            Code::DuplicateSequenceNumber,
            Code::UnknownProducerId,
            Code::InvalidProducerIdMapping,
            Code::InvalidTransactionalState,
            Code::TransactionCoordinatorFenced,
            Code::IllegalGeneration,
            Code::UnknownMemberId,
            Code::StaleMemberEpoch,
            Code::FencedMemberEpoch,
            Code::AssignmentLost,
            Code::PollExceeded,
        ],
    ),
    row(
        ErrorClass::Fenced,
        "another producer or member uses the same id, or this one was away for longer than the \
         transaction timeout",
        &[
            Code::Fenced,
            Code::ProducerFenced,
            Code::InvalidProducerEpoch,
            Code::FencedInstanceId,
            Code::UnreleasedInstanceId,
        ],
    ),
    row(
        ErrorClass::User,
        "the record is refused for what it is: make it smaller or raise max.message.bytes of the \
         topic and message.max.bytes of the client",
        &[Code::MessageSizeTooLarge, Code::MessageBatchTooLarge, Code::InvalidMessageSize],
    ),
    row(
        ErrorClass::User,
        "the record is refused for what it is",
        &[
            Code::InvalidRecord,
            Code::InvalidTimestamp,
            Code::InvalidMessage,
            Code::BadMessage,
            Code::KeySerialization,
            Code::ValueSerialization,
            Code::KeyDeserialization,
            Code::ValueDeserialization,
            Code::Application,
        ],
    ),
    row(
        ErrorClass::Fatal,
        "create the topic, or correct its name or its number of partitions",
        &[
            Code::UnknownTopic,
            Code::UnknownPartition,
            Code::UnknownTopicOrPartition,
            Code::InvalidTopic,
            Code::InvalidPartitions,
            Code::InvalidReplicationFactor,
            Code::InvalidReplicaAssignment,
            Code::TopicAlreadyExists,
            Code::TopicDeletionDisabled,
            Code::PolicyViolation,
            Code::InvalidConfig,
        ],
    ),
    row(
        ErrorClass::Fatal,
        "the position is not in the log any more (retention), or not yet (records were lost): give \
         the topic a longer retention, or reset the application's offsets",
        &[Code::OffsetOutOfRange, Code::AutoOffsetReset, Code::LogTruncation],
    ),
    row(
        ErrorClass::Fatal,
        "check user, password, mechanism, certificates and KAFKA_SSL",
        &[
            Code::Authentication,
            Code::SaslAuthenticationFailed,
            Code::SSL,
            Code::UnsupportedSASLMechanism,
            Code::IllegalSASLState,
            Code::SecurityDisabled,
            Code::DelegationTokenAuthDisabled,
            Code::DelegationTokenNotFound,
            Code::DelegationTokenOwnerMismatch,
            Code::DelegationTokenRequestNotAllowed,
            Code::DelegationTokenAuthorizationFailed,
            Code::DelegationTokenExpired,
            Code::InvalidPrincipalType,
            Code::PrincipalDeserializationFailure,
            Code::UnacceptableCredential,
        ],
    ),
    row(
        ErrorClass::Fatal,
        "give this user the missing right (ACL)",
        &[
            Code::TopicAuthorizationFailed,
            Code::GroupAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
        ],
    ),
    row(
        ErrorClass::Fatal,
        "the broker is too old or lacks the feature: Kafka 2.5 is the oldest that has what \
         exactly-once needs",
        &[
            Code::UnsupportedVersion,
            Code::UnsupportedFeature,
            Code::UnsupportedForMessageFormat,
            Code::UnsupportedCompressionType,
            Code::UnknownProtocol,
            Code::UnsupportedAssignor,
            Code::NotImplemented,
            Code::BadCompression,
        ],
    ),
    row(
        ErrorClass::Fatal,
        "transaction.timeout.ms is above the broker's transaction.max.timeout.ms (15 minutes unless \
         changed): lower the one or raise the other",
        &[Code::InvalidTransactionTimeout],
    ),
    row(
        ErrorClass::Fatal,
        "the configuration of client or broker refuses it",
        &[
            Code::InvalidArgument,
            Code::NotConfigured,
            Code::InvalidRequest,
            Code::InvalidRequiredAcks,
            Code::InvalidSessionTimeout,
            Code::InvalidGroupId,
            Code::InvalidCommitOffsetSize,
            Code::OffsetMetadataTooLarge,
            Code::InconsistentGroupProtocol,
            Code::MemberIdRequired,
            Code::GroupMaxSizeReached,
            Code::GroupIdNotFound,
            Code::NonEmptyGroup,
            Code::GroupSubscribedToTopic,
            Code::UnknownGroup,
            Code::ResourceNotFound,
            Code::DuplicateResource,
        ],
    ),
    row(
        ErrorClass::Fatal,
        "this is not expected here; report it with the log",
        &[
            Code::Unknown,
            Code::Fail,
            Code::Fatal,
            Code::CriticalSystemResource,
            Code::FileSystem,
            Code::ExistingSubscription,
            Code::AssignPartitions,
            Code::RevokePartitions,
            Code::Conflict,
            Code::State,
            Code::ReadOnly,
            Code::NoEnt,
            Code::Underflow,
            Code::InvalidType,
            Code::LogDirNotFound,
            Code::InconsistentVoterSet,
            Code::InvalidUpdateVersion,
            Code::FeatureUpdateFailed,
            Code::UnknownSubscriptionId,
            Code::TelemetryTooLarge,
        ],
    ),
];

/// The row of a code.
pub(super) fn row_of(code: Code) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.codes.contains(&code))
}

/// The code says that a batch is too large, which any of its records may have caused.
pub(super) fn is_of_a_batch(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge)
}

/// The class of a code.
pub(super) fn class_of(code: Code) -> ErrorClass {
    row_of(code).map_or(ErrorClass::Fatal, |row| row.class)
}

/// An error of this code, in the engine's words.
pub(super) fn from_code(operation: &'static str, code: Code) -> LogError {
    let advice = match missing_right(operation, code) {
        Some(right) => format!("give this user {right} (ACL)"),
        None => row_of(code)
            .map_or("an error code that this build does not know", |row| row.advice)
            .to_owned(),
    };
    LogError::new(class_of(code), operation, format!("{code}; {advice}"))
}

/// The right that an operation lacked.
fn missing_right(operation: &str, code: Code) -> Option<&'static str> {
    match (code, operation) {
        (Code::GroupAuthorizationFailed, _) => {
            Some("Read on the consumer group, which is the application id")
        }
        (Code::TransactionalIdAuthorizationFailed, _) => {
            Some("Write and Describe on transactional ids that begin with the application id")
        }
        (Code::ClusterAuthorizationFailed, "create topics") => Some(CREATE),
        (Code::TopicAuthorizationFailed, operation) => Some(match operation {
            "create topics" => CREATE,
            "describe topics" => "Describe and DescribeConfigs on the topic",
            "read" | "read offsets" | "commit offsets" | "be a member of the group" => {
                "Read on the topic"
            }
            "delete records" => "Delete on the topic",
            _ => "Write on the topic",
        }),
        _ => None,
    }
}

const CREATE: &str = "Create on the topic or on the cluster, or create the topic yourself";

/// What waiting does not cure, and a client only mentions while its calls time out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The broker does not accept the user.
    Login,
    /// No connection with TLS comes about.
    Tls,
    /// The user may not do it.
    Right(Code),
}

/// The trouble that a client-wide error stands for.
pub(super) fn trouble(code: Code) -> Option<Trouble> {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => Some(Trouble::Login),
        Code::SSL => Some(Trouble::Tls),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => Some(Trouble::Right(code)),
        _ => None,
    }
}

/// The engine's error for one of librdkafka's.
pub(super) fn from_kafka(operation: &'static str, error: &KafkaError) -> LogError {
    let code = match error {
        // rdkafka gives no code of it.
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    match code {
        Some(Code::NoError) | None => {
            LogError::new(ErrorClass::Fatal, operation, error.to_string())
        }
        Some(code) => from_code(operation, code),
    }
}

/// What a failed transactional call means.
#[derive(Debug)]
pub(super) enum Failed {
    /// This, and no more than this, has happened.
    Known(LogError),
    /// Whether it happened is for the log to say, and the producer cannot go on.
    Unknown(String),
}

/// librdkafka's words for a partition that could not become part of a transaction.
const ADDING: &str = "partition(s) to transaction";

/// Judges a transactional call other than the one that ends a transaction.
pub(super) fn from_transaction(operation: &'static str, error: &KafkaError) -> Failed {
    let KafkaError::Transaction(flags) = error else {
        return Failed::Known(from_kafka(operation, error));
    };
    let flags = TransactionError {
        code: flags.code(),
        message: flags.string(),
        is_fatal: flags.is_fatal(),
        requires_abort: flags.txn_requires_abort(),
    };
    from_flags(operation, &flags)
}

/// The same, of a call that rdkafka does not offer.
pub(super) fn from_flags(operation: &'static str, error: &TransactionError) -> Failed {
    // Partitions are added in the background; the next call says that it failed.
    let cause = if error.message.contains(ADDING) { "send records" } else { operation };
    let mut known = LogError { operation, ..from_code(cause, error.code) };
    known.message = format!("{}: {}", error.message, known.message);
    let decided = matches!(known.class, ErrorClass::Fenced | ErrorClass::Fatal);
    if error.is_fatal && !decided {
        return Failed::Unknown(known.to_string());
    }
    if error.requires_abort && known.class == ErrorClass::Retry {
        known.class = ErrorClass::Abort;
    }
    Failed::Known(known)
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaRespErr;

    use super::*;

    const PAGE: &str = "\
# Errors of Kafka's client

Every error code of librdkafka and of Kafka's brokers has one class, which says what the engine does.
A test compares this page with the table in the code and regenerates it.

| class | what happens |
|---|---|
| retry | nothing has happened; the call is made again, with a pause that grows |
| abort | the transaction is aborted, its tasks rewind and do the work again |
| fenced | another producer has the id: the overlay is dropped, a new producer resolves what is open |
| fatal | the application stops and says why; a person has to act |
| user | a record is at fault: it goes to the dead letter topic, or stops the application, as configured |

A call on a transaction answers with flags beside the code:

| flags | what happens |
|---|---|
| fatal, and the code is `fenced` or `fatal` here | as below |
| fatal, any other code | nobody knows what happened: a new producer of the same id asks the log |
| the transaction must be aborted, and the code is `retry` here | abort |
| a commit that failed without that flag, and the code is not `fenced` | nobody knows, as above |
| none | as below |

A code that is in no list (a newer broker's) is fatal: what is not understood is not retried. Where a
right is missing, the error names it with its topic, group or id; [kafka.md](kafka.md) lists them all.
";

    /// Every code that librdkafka of this build can give.
    fn codes() -> Vec<Code> {
        let marks = [Code::Begin, Code::End, Code::EndAll, Code::NoError];
        (-250..1000)
            .filter_map(|number| RDKafkaRespErr::try_from(number).ok())
            .map(Code::from)
            .filter(|code| !marks.contains(code))
            .collect()
    }

    /// The page of the table, in the order of classes.
    fn page() -> String {
        let mut rows: Vec<&Row> = TABLE.iter().collect();
        rows.sort_by_key(|row| row.class);
        let mut page = PAGE.to_owned();
        for row in rows {
            page.push_str(&format!("\n## {}: {}\n\n", row.class, row.advice));
            for code in row.codes {
                page.push_str(&format!("- `{code}`\n"));
            }
        }
        page
    }

    #[test]
    fn a_failed_request_of_an_administrator_is_as_its_code_says() {
        let away = KafkaError::AdminOp(Code::BrokerTransportFailure);
        assert_eq!(from_kafka("describe topics", &away).class, ErrorClass::Retry);
        let denied = KafkaError::AdminOp(Code::TopicAuthorizationFailed);
        assert_eq!(from_kafka("describe topics", &denied).class, ErrorClass::Fatal);
    }

    #[test]
    fn the_page_of_errors_says_what_the_table_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kafka-errors.md");
        if std::env::var_os("HEADWATER_WRITE_DOCS").is_some() {
            std::fs::write(file, page()).expect("the page can be written");
        }
        let found = std::fs::read_to_string(file).expect("the page is there");
        assert!(
            found == page(),
            "docs/kafka-errors.md is out of date: run this test with HEADWATER_WRITE_DOCS=1"
        );
    }

    #[test]
    fn every_error_code_of_librdkafka_stands_in_exactly_one_row() {
        assert!(codes().len() > 150, "{} codes", codes().len());
        for code in codes() {
            let rows = TABLE.iter().filter(|row| row.codes.contains(&code)).count();
            assert_eq!(rows, 1, "{code:?}");
        }
    }

    #[test]
    fn an_error_says_what_happened_and_what_to_do() {
        let error = from_code("create topic", Code::TopicAuthorizationFailed);
        assert_eq!(error.class, ErrorClass::Fatal);
        let text = error.to_string();
        assert!(text.starts_with("create topic: TopicAuthorizationFailed"), "{text}");
        assert!(text.contains("give this user Write on the topic (ACL)"), "{text}");
        let error = from_code("create topics", Code::TopicAuthorizationFailed);
        assert!(error.to_string().contains("give this user Create"), "{error}");
    }

    #[test]
    fn a_fenced_producer_a_lost_transaction_and_a_large_record_are_told_apart() {
        assert_eq!(class_of(Code::ProducerFenced), ErrorClass::Fenced);
        assert_eq!(class_of(Code::InvalidProducerEpoch), ErrorClass::Fenced);
        assert_eq!(class_of(Code::MessageTimedOut), ErrorClass::Abort);
        assert_eq!(class_of(Code::IllegalGeneration), ErrorClass::Abort);
        assert_eq!(class_of(Code::MessageSizeTooLarge), ErrorClass::User);
        assert_eq!(class_of(Code::QueueFull), ErrorClass::Retry);
    }
}
