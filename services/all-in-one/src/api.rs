//! A small client of the REST edge.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::{CliError, cli::Server};

/// How long one call may take. A chunk of an upload has to fit in on a slow line.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Why an upload is refused while an earlier call still works on it; trying again helps.
const BUSY: &str = "upload_busy";

/// The edge, and who calls it.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    base: Url,
    key: Option<String>,
    http: reqwest::Client,
}

/// An error as the edge words it (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    reason: String,
    request_id: String,
    errors: Vec<FieldError>,
    unmet: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FieldError {
    field: String,
    description: String,
}

impl Api {
    /// A client of the server that the command line names.
    pub(crate) fn new(server: &Server) -> Result<Self, CliError> {
        let base = Url::parse(&server.server).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| {
            CliError::Usage(format!("--server {}: expected an address such as http://localhost:9090", server.server))
        })?;
        let http = reqwest::Client::builder().timeout(CALL_TIMEOUT).build()?;
        Ok(Self { base, key: server.key.clone(), http })
    }

    /// Address of the server, for people and for the state of an upload.
    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A request to `path`, with the caller's credential.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base()));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// One call that answers with JSON.
    pub(crate) async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = accepted(request.send().await?).await?;
        Ok(answer.json().await?)
    }
}

/// The answer, or the error that it is.
pub(crate) async fn accepted(answer: Response) -> Result<Response, CliError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let problem = answer.json::<Problem>().await.unwrap_or_default();
    let sentence = problem.sentence(status);
    if problem.reason == BUSY {
        return Err(CliError::Unavailable(sentence));
    }
    Err(match status {
        StatusCode::UNAUTHORIZED => CliError::Refused(format!("{sentence} (give an API key with --key or STREAMGATE_API_KEY)")),
        StatusCode::FORBIDDEN => CliError::Refused(sentence),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::BAD_GATEWAY
        | StatusCode::GATEWAY_TIMEOUT => CliError::Unavailable(sentence),
        _ => CliError::Failed(sentence),
    })
}

impl Problem {
    fn sentence(&self, status: StatusCode) -> String {
        let what = [&self.detail, &self.title].into_iter().find(|text| !text.is_empty());
        let mut sentence = what.cloned().unwrap_or_else(|| format!("the server answered {status}"));
        for error in &self.errors {
            sentence.push_str(&format!("; {}: {}", error.field, error.description));
        }
        for requirement in &self.unmet {
            sentence.push_str(&format!("; unmet: {requirement}"));
        }
        if !self.reason.is_empty() {
            sentence.push_str(&format!(" [{}]", self.reason));
        }
        if status.is_server_error() && !self.request_id.is_empty() {
            sentence.push_str(&format!(" (request {})", self.request_id));
        }
        sentence
    }
}

/// A gate given as JSON or as the path of a file that holds it.
pub(crate) fn gate_argument(argument: &str) -> Result<Value, CliError> {
    let text = if argument.trim_start().starts_with('{') {
        argument.to_owned()
    } else {
        std::fs::read_to_string(argument).map_err(|error| CliError::Usage(format!("--gate {argument}: {error}")))?
    };
    serde_json::from_str(&text).map_err(|error| CliError::Usage(format!("--gate is not JSON: {error}")))
}
