//! The operations that are no RPC: uploads and media.

use serde_json::{Value, json};

use crate::openapi::answers;

/// Path, method and operation of each.
pub fn operations() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("/api/v1/upload", "post", upload_form()),
        ("/api/v1/upload/chunk", "post", upload_chunk(true)),
        ("/api/v1/uploads/{upload_id}/chunks", "post", upload_chunk(false)),
        ("/api/v1/uploads/{upload_id}", "head", upload_offset()),
        ("/api/v1/uploads/{upload_id}", "patch", upload_append()),
        (
            "/play/{playback_id}.m3u8",
            "get",
            play("playHls", "The HLS playlist of a title.", "application/vnd.apple.mpegurl", false),
        ),
        ("/play/{playback_id}.mpd", "get", play("playDash", "The DASH manifest of a title.", "application/dash+xml", false)),
        (
            "/api/v1/stream/hls",
            "get",
            stream("streamHls", "The HLS playlist of a title.", "application/vnd.apple.mpegurl", false),
        ),
        ("/api/v1/stream/dash", "get", stream("streamDash", "The DASH manifest of a title.", "application/dash+xml", false)),
        ("/api/v1/stream/segment", "get", stream("streamSegment", "One segment of a title.", "application/octet-stream", true)),
        (
            "/play/{playback_id}/{path}",
            "get",
            play("playAsset", "Anything that a playlist or a manifest names.", "application/octet-stream", true),
        ),
    ]
}

/// The good answers of an operation, and its problems.
fn answers_of(good: Value, problems: &[u16]) -> Value {
    let mut responses = answers::problems(problems);
    if let Value::Object(good) = good {
        responses.extend(good);
    }
    Value::Object(responses)
}

fn upload_id() -> Value {
    json!({"name": "upload_id", "in": "path", "required": true, "schema": {"type": "string"}})
}

fn upload_form() -> Value {
    let stored = json!({"type": "object", "properties": {
        "upload_id": {"type": "string"}, "file_id": {"type": "string"}, "filename": {"type": "string"},
        "size": {"type": "integer", "format": "int64"}, "sha256": {"type": "string"}, "content_id": {"type": "string"},
    }});
    let answer = |text: &str| json!({"description": text, "content": {"application/json": {"schema": stored.clone()}}});
    json!({
        "operationId": "upload.Form", "tags": ["upload"], "summary": "Uploads a file in one form",
        "description": "Takes a file of any size as it comes; transcoding starts by itself. Needs the role creator.",
        "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 128},
            "description": "Repeating a call with the same key goes on where it broke off, or returns the first answer."}],
        "requestBody": {"required": true, "content": {"multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {
                "file": {"type": "string", "contentMediaType": "application/octet-stream", "description": "The video."},
                "title": {"type": "string", "description": "Its title; the file's name when absent."},
                "gate": {"$ref": "#/components/schemas/gate.v1.Rule"},
                "sha256": {"type": "string", "description": "Expected lower-case hex SHA-256; before the file."},
            }},
            "encoding": {"gate": {"contentType": "application/json"}},
        }}},
        "responses": answers_of(
            json!({"201": answer("Stored."), "200": answer("An earlier call with the same key had stored it.")}),
            &answers::WITH_BODY,
        ),
    })
}

/// The bytes of a chunk, streamed. The path may name the upload already.
fn upload_chunk(names_upload: bool) -> Value {
    let query =
        |name: &str, kind: &str, text: &str| json!({"name": name, "in": "query", "schema": {"type": kind}, "description": text});
    let mut parameters = vec![
        query(
            "index",
            "integer",
            "Place of the chunk among the chunks, from 0; or offset_bytes. For a body that is the chunk itself.",
        ),
        query("offset_bytes", "integer", "Offset of its first byte; or index."),
        query("sha256", "string", "Expected lower-case hex SHA-256 of the chunk; or Content-Digest."),
        json!({"name": "Content-Digest", "in": "header", "schema": {"type": "string"}, "description": "`sha-256=:base64:` (RFC 9530)."}),
    ];
    if names_upload {
        parameters.push(query("upload_id", "string", "The upload. For a body that is the chunk itself."));
    }
    let schema = json!({"$ref": "#/components/schemas/upload.v1.WriteChunkResponse"});
    let durable = json!({"200": {"description": "Durable.", "content": {"application/json": {"schema": schema}}}});
    json!({
        "parameters": parameters,
        "requestBody": {"required": true, "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {"schema": {"type": "object", "required": ["chunk"], "properties": {
                "upload_id": {"type": "string"},
                "index": {"type": "integer", "minimum": 0},
                "offset_bytes": {"type": "integer", "minimum": 0},
                "sha256": {"type": "string"},
                "chunk": {"type": "string", "contentMediaType": "application/octet-stream", "description": "The last field."},
            }}},
        }},
        "responses": answers_of(durable, &answers::WITH_BODY),
    })
}

fn upload_offset() -> Value {
    json!({
        "operationId": "upload.Offset", "tags": ["upload"], "summary": "How far an upload is",
        "description": "The next byte to send: all before it are durable. Needs the role creator.",
        "parameters": [upload_id()],
        "responses": answers_of(json!({"200": {"description": "The offset is in the headers.", "headers": {
            "Upload-Offset": {"description": "The next byte to send.", "schema": {"type": "integer", "format": "int64"}},
            "Upload-Length": {"description": "Whole size, if announced.", "schema": {"type": "integer", "format": "int64"}},
        }}}), &[]),
    })
}

fn upload_append() -> Value {
    json!({
        "operationId": "upload.Append", "tags": ["upload"], "summary": "Appends bytes to an upload",
        "description": "Answers when all of them are durable. After a break, ask for the offset and go on from there. Needs the role creator.",
        "parameters": [upload_id(), {"name": "Upload-Offset", "in": "header", "required": true, "description": "The offset of the first byte.",
            "schema": {"type": "integer", "format": "int64"}}],
        "requestBody": {"required": true, "content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        "responses": answers_of(json!({"204": {"description": "Stored.", "headers": {
            "Upload-Offset": {"description": "The next byte to send.", "schema": {"type": "integer", "format": "int64"}},
        }}}), &answers::WITH_BODY),
    })
}

/// The same as below `/play`, with everything in the query.
fn stream(id: &str, summary: &str, kind: &str, segment: bool) -> Value {
    let query = |name: &str, text: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}, "description": text});
    let mut parameters = vec![
        query("playback_id", "The title's public id; or content_id."),
        query("content_id", "The title's own id, for its owner and operators, or together with its token."),
        query("token", "Playback token, in place of an identity."),
    ];
    if segment {
        parameters.push(json!({"name": "segment_id", "in": "query", "required": true, "schema": {"type": "string"},
            "description": "The segment as playlists name it, such as `1/v720/00001.m4s`."}));
    } else {
        parameters.extend(choices());
    }
    let mut operation = play(id, summary, kind, false);
    operation["parameters"] = parameters.into();
    operation
}

/// What narrows the renditions that an entry offers.
fn choices() -> [Value; 2] {
    [
        json!({"name": "max_resolution", "in": "query", "schema": {"type": "string"},
            "description": "Largest picture: its shorter side as `720` or `720p`, or a box as `1280x720`."}),
        json!({"name": "bandwidth", "in": "query", "schema": {"type": "integer", "format": "int64", "minimum": 1},
            "description": "Most bits in a second, picture and sound together."}),
    ]
}

fn play(id: &str, summary: &str, kind: &str, below: bool) -> Value {
    let mut parameters = vec![json!({"name": "playback_id", "in": "path", "required": true, "schema": {"type": "string"}})];
    if below {
        parameters.push(json!({"name": "path", "in": "path", "required": true, "description": "May hold slashes.", "schema": {"type": "string"}}));
    } else {
        parameters.extend(choices());
    }
    let answer = |text: &str| json!({"description": text, "content": {kind: {"schema": {"type": "string", "format": "binary"}}}});
    json!({
        "operationId": id, "tags": ["play"], "summary": summary.trim_end_matches('.'),
        "description": format!("{summary} Under the title's gate: a playback token as bearer, cookie or `token`; an entry also takes an identity."),
        "security": [{}, {"bearer": []}, {"playback_token": []}, {"playback_cookie": []}],
        "parameters": parameters,
        "responses": answers_of(
            json!({
                "200": answer("The asset."),
                "206": answer("A part of it."),
                "304": {"description": "The caller has it already."},
            }),
            &[416],
        ),
    })
}
