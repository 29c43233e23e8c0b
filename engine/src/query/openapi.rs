//! The API as OpenAPI 3.1, made from the table of endpoints. Knows their form only.

use serde_json::{Map, Value as Json, json};

use super::endpoint::{Access, Endpoint};
use super::parameters::{LIMIT_DEFAULT, LIMIT_MAX, Parameter, ParameterKind};
use super::route::Method;

/// Describes these endpoints.
pub(super) fn describe(endpoints: &[Endpoint]) -> Json {
    let mut paths = Map::new();
    for endpoint in endpoints {
        let path = paths.entry(endpoint.path.clone()).or_insert_with(|| json!({}));
        let method = match endpoint.method {
            Method::Get => "get",
            Method::Post => "post",
            Method::Delete => "delete",
        };
        path[method] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Headwater", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "schemas": { "Problem": problem(), "Record": record() },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Json {
    let in_path = names_in_path(&endpoint.path);
    let mut parameters: Vec<Json> = in_path
        .iter()
        .map(|name| {
            let declared = endpoint.parameters.iter().find(|p| p.name == *name);
            let schema = declared.map_or_else(|| json!({ "type": "string" }), schema);
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    let in_query = endpoint.parameters.iter().filter(|p| !in_path.contains(&p.name));
    parameters.extend(in_query.map(|p| {
        let (schema, about) = (schema(p), p.about);
        json!({ "name": p.name, "in": "query", "required": p.required, "schema": schema,
                "description": about })
    }));
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    let mut operation = json!({
        "summary": endpoint.about,
        "parameters": parameters,
        "responses": {
            "200": { "description": "the answer" },
            "default": {
                "description": "why there is none",
                "content": { "application/problem+json": { "schema": problem } },
            },
        },
    });
    if endpoint.access == Access::Write {
        operation["security"] = json!([{ "token": [] }]);
    }
    if endpoint.method == Method::Post {
        let record = json!({ "$ref": "#/components/schemas/Record" });
        let many = json!({ "type": "array", "items": record });
        let schema = if endpoint.path.starts_with("/topics/") {
            json!({ "oneOf": [record, many] })
        } else {
            json!({ "type": "object" })
        };
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": schema } },
        });
    }
    operation
}

fn names_in_path(path: &str) -> Vec<&str> {
    path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')).collect()
}

fn schema(parameter: &Parameter) -> Json {
    match parameter.kind {
        ParameterKind::Text => json!({ "type": "string" }),
        ParameterKind::Number => json!({ "type": "integer", "format": "int64", "minimum": 0 }),
        ParameterKind::Time => json!({ "oneOf": [
            { "type": "integer", "format": "int64", "description": "milliseconds since 1970" },
            { "type": "string", "format": "date-time" },
        ] }),
        ParameterKind::Limit => json!({
            "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT,
        }),
        ParameterKind::Word(words) => json!({ "enum": words }),
    }
}

fn problem() -> Json {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "what was wrong and what to do next" },
        },
    })
}

fn record() -> Json {
    let text = json!({ "type": ["string", "null"] });
    let base64 = json!({ "type": "string", "contentEncoding": "base64" });
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "key": text,
            "keyBase64": base64,
            "value": { "description": "any JSON, stored as it is written; a string is stored as \
                                       its text; null deletes the key" },
            "valueBase64": base64,
            "timestamp": { "type": "integer", "format": "int64", "minimum": 0 },
            "partition": { "type": "integer", "minimum": 0 },
            "headers": { "type": "array", "items": {
                "type": "object",
                "additionalProperties": false,
                "required": ["name"],
                "properties": {
                    "name": { "type": "string" }, "value": text, "valueBase64": base64,
                },
            } },
        },
    })
}
