//! The OpenAPI 3.1 document of the JSON API, written from the table of routes and the table of shapes.
//!
//! It holds nothing secret and is served to anybody. RFC 7662, 7009 and 8414 describe the other paths better than a
//! schema could; they are named here, not described.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::routes::{ROUTES, Route, parameters};
use super::schemas::{Field, Kind, SCHEMAS, Schema};
use crate::server::Wait;

static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| build().to_string().into_bytes());

/// The document, as JSON.
pub fn document() -> &'static [u8] {
    &DOCUMENT
}

fn build() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(route.method.to_ascii_lowercase(), operation(route));
        }
    }
    let schemas: Map<String, Value> = SCHEMAS.iter().map(|schema| (schema.name.to_owned(), describe(schema))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tokenscope",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Changes, lists and reports of Tokenscope. Introspection for stock clients is POST /introspect \
                (RFC 7662), revocation POST /revoke (RFC 7009), metadata GET /.well-known/oauth-authorization-server \
                (RFC 8414), decisions for gateways GET /authorize. Times are whole seconds since 1970.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Error": {
                    "description": "What went wrong. 503 and 429 come with Retry-After.",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
                },
            },
            "securitySchemes": {
                "basic": { "type": "http", "scheme": "basic" },
                "bearer": { "type": "http", "scheme": "bearer" },
                "certificate": { "type": "mutualTLS" },
            },
        },
        "security": [{ "basic": [] }, { "bearer": [] }, { "certificate": [] }],
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": format!("{:?}", route.call),
        "summary": route.summary,
        "description": format!("Right: {}.", route.right),
        "responses": {
            "200": {
                "description": "Done.",
                "content": { "application/json": { "schema": reference(route.gives) } },
            },
            "default": { "$ref": "#/components/responses/Error" },
        },
    });
    let in_path = parameters(route.path)
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = route.query.iter().map(|name| {
        let schema = match *name {
            "limit" => {
                json!({ "type": "integer", "minimum": 1, "maximum": super::ROWS_MAX, "default": super::ROWS_DEFAULT })
            }
            "wait" => {
                let words = Wait::ALL.map(Wait::as_str);
                json!({ "type": "string", "enum": words, "default": Wait::default().as_str() })
            }
            "dry_run" => json!({ "type": "boolean", "default": false }),
            _ => json!({ "type": "string" }),
        };
        json!({ "name": name, "in": "query", "required": false, "schema": schema })
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    if let Some(members) = operation.as_object_mut() {
        if !parameters.is_empty() {
            members.insert("parameters".into(), parameters.into());
        }
        if let Some(takes) = route.takes {
            let example: Value = serde_json::from_str(route.example).unwrap_or_default();
            let content = json!({ "application/json": { "schema": reference(takes), "example": example } });
            members.insert("requestBody".into(), json!({ "required": true, "content": content }));
        }
    }
    operation
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn describe(schema: &Schema) -> Value {
    let properties: Map<String, Value> =
        schema.fields.iter().map(|field| (field.name.to_owned(), property(field))).collect();
    let required: Vec<&str> = schema.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut described = json!({
        "type": "object",
        "description": schema.about,
        "properties": properties,
        "additionalProperties": false,
    });
    if let Some(members) = described.as_object_mut() {
        if !required.is_empty() {
            members.insert("required".into(), json!(required));
        }
        if schema.exactly_one {
            members.insert("minProperties".into(), 1.into());
            members.insert("maxProperties".into(), 1.into());
        }
    }
    described
}

fn property(field: &Field) -> Value {
    let mut value = match field.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Number => json!({ "type": "integer", "minimum": 0 }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Texts if field.name == "aud" => {
            json!({ "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
        }
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Of(schema) => reference(schema),
        Kind::ListOf(schema) => json!({ "type": "array", "items": reference(schema) }),
        Kind::Object if field.name == "among" => json!({
            "oneOf": [{ "type": "string", "enum": ["all"] }, { "type": "object", "minProperties": 1, "maxProperties": 1 }]
        }),
        Kind::Object => json!({ "type": "object" }),
    };
    if let Some(members) = value.as_object_mut() {
        members.insert("description".into(), field.about.into());
    }
    value
}
