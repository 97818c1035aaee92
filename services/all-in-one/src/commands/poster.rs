//! `streamgate contents poster`.

use reqwest::Method;
use serde_json::json;

use crate::{CliError, api::Api, cli::Poster};

/// Makes a frame of a title its poster.
pub(crate) async fn run(arguments: Poster) -> Result<(), CliError> {
    let api = Api::new(&arguments.server)?;
    let path = format!("/api/v1/contents/{}/poster", arguments.content_id);
    api.json(Method::PUT, &path, Some(&json!({"at_ms": arguments.at}))).await?;
    println!("the poster shows what is seen at {} ms", arguments.at);
    Ok(())
}
