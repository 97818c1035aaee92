//! `streamgate play`.

use reqwest::Method;
use serde_json::json;
use streamgate_core::ids::ContentId;

use crate::{CliError, api::Api, cli::Play};

/// Opens a playback session and prints its URLs.
pub(crate) async fn run(arguments: Play) -> Result<(), CliError> {
    let api = Api::new(&arguments.server)?;
    let playback_id = match arguments.id.parse::<ContentId>() {
        Ok(content) => first_playback_id(&api, content.as_str()).await?,
        Err(_) => arguments.id,
    };
    let session = api.json(Method::POST, "/api/v1/sessions", Some(&json!({"playback_id": playback_id}))).await?;
    for (name, field) in [("HLS ", "hls_url"), ("DASH", "dash_url")] {
        println!("{name}  {}", absolute(&api, session[field].as_str().unwrap_or_default()));
    }
    Ok(())
}

async fn first_playback_id(api: &Api, content_id: &str) -> Result<String, CliError> {
    let content = api.json(Method::GET, &format!("/api/v1/contents/{content_id}"), None).await?;
    let id = content["playback_ids"][0].as_str();
    id.map(str::to_owned).ok_or_else(|| CliError::Failed("the title has no playback id".into()))
}

fn absolute(api: &Api, url: &str) -> String {
    if url.starts_with('/') { format!("{}{url}", api.base()) } else { url.to_owned() }
}
