//! The registry client against a real schema registry: register, evolve, be refused, read old data.

use std::net::TcpListener;

use headwater_schemas::avro;
use headwater_schemas::catalogue::{event_types, newest, versions};
use headwater_schemas::registry::{Registry, RegistryError};
use headwater_tests::schema_registry::SchemaRegistry;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn task() -> Map<String, Value> {
    let task = json!({"eventId": "e", "taskId": "t", "userId": "u", "description": "d",
                      "priority": null, "timestamp": 5});
    task.as_object().expect("an object").clone()
}

/// One registry for the whole story: it takes five seconds to start.
#[test]
fn a_schema_is_registered_evolved_and_refused_and_old_data_is_read_with_the_new_one() {
    let Some(server) = SchemaRegistry::start() else { return };
    let registry = Registry::new(server.url(), Some("a-token")).expect("an address");
    let runtime = runtime();
    runtime.block_on(async {
        let [v1, v2] = versions("TaskEvent") else { panic!("two versions") };

        let unknown = registry.latest("TaskEvent").await.expect_err("nothing is there yet");
        assert!(matches!(unknown, RegistryError::NotFound { .. }), "{unknown:?}");
        let unknown = registry.by_id(4_000_000).await.expect_err("no such id");
        assert!(matches!(unknown, RegistryError::NotFound { .. }), "{unknown:?}");

        let first = registry.evolve("TaskEvent", v1.text).await.expect("the first version");
        let again = registry.evolve("TaskEvent", v1.text).await.expect("the same again");
        assert_eq!(first, again, "a schema is registered once");
        let old = avro::frame(first, avro::encode(&task(), &v1.schema).expect("valid"));

        let second = registry.evolve("TaskEvent", v2.text).await.expect("a compatible version");
        assert_ne!(first, second);
        assert_eq!(registry.latest("TaskEvent").await.expect("the newest").id, second);

        // A field without a default cannot be read from old data.
        let narrow = v2.text.replace(
            r#""name": "tags", "type": {"type": "array", "items": "string"}, "default": []"#,
            r#""name": "tags", "type": {"type": "array", "items": "string"}"#,
        );
        assert_ne!(narrow, v2.text, "the file is written as this test reads it");
        let refused = registry.evolve("TaskEvent", &narrow).await.expect_err("incompatible");
        let RegistryError::Incompatible { subject, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(subject, "TaskEvent-value");
        assert!(!refused.is_retryable());
        assert_eq!(registry.latest("TaskEvent").await.expect("unchanged").id, second);

        let invalid = registry.evolve("TaskEvent", "{\"type\": \"no such type\"}").await;
        let invalid = invalid.expect_err("not a schema");
        assert!(
            matches!(invalid, RegistryError::Invalid { .. } | RegistryError::Incompatible { .. }),
            "{invalid:?}"
        );

        // A reader that knows version 2 meets a value of version 1.
        let (id, datum) = avro::unframe(&old).expect("framed");
        let writer = registry.by_id(id).await.expect("the writer's schema");
        let writer = avro::parse_schema(&writer.schema).expect("a schema");
        let read = avro::decode(datum, &writer, &v2.schema).expect("resolvable");
        assert_eq!((&read["taskId"], &read["tags"]), (&json!("t"), &json!([])));
    });
    server.stop();
    let gone = runtime.block_on(registry.latest("TaskEvent")).expect_err("nobody answers");
    assert!(matches!(gone, RegistryError::Unavailable { .. }), "{gone:?}");
    assert!(gone.is_retryable());
}

#[test]
fn every_schema_of_the_platform_can_be_registered_version_by_version() {
    let Some(server) = SchemaRegistry::start() else { return };
    let registry = Registry::new(server.url(), None).expect("an address");
    runtime().block_on(async {
        for event_type in event_types() {
            for version in versions(event_type) {
                let registered = registry.evolve(event_type, version.text).await;
                registered.unwrap_or_else(|error| panic!("{event_type}: {error}"));
            }
            let latest = registry.latest(event_type).await.expect("registered");
            let latest = avro::parse_schema(&latest.schema).expect("a schema");
            assert_eq!(Some(&latest), newest(event_type).map(|newest| &newest.schema));
        }
    });
}

#[test]
fn a_registry_that_is_not_there_and_an_address_that_is_none_are_said_so() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = port.expect("a free port").port();
    let registry = Registry::new(&format!("http://127.0.0.1:{port}"), None).expect("an address");
    let error = runtime().block_on(registry.latest("TaskEvent")).expect_err("nobody listens");
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    let error = Registry::new("registry:8081", None).expect_err("no scheme");
    assert!(error.to_string().contains("SCHEMA_REGISTRY_URL"), "{error}");
}
