//! A client of the REST edge that shows answers as they are, refusals included.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use reqwest::{
    Body, Method, RequestBuilder,
    header::{HeaderMap, HeaderName, HeaderValue},
    multipart,
};
use serde_json::{Value, json};
use streamgate_testkit::Wallet;
use tokio_util::io::ReaderStream;
use url::Url;

/// Longer than any honest answer takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What was asked, for messages.
    pub asked: String,
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Whole body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("{}: the answer is not JSON: {}", self.asked, self.text()))
    }

    /// The body as text, whatever it is.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The stable reason of a refusal; empty when there is none.
    #[must_use]
    pub fn reason(&self) -> String {
        self.json().ok().and_then(|problem| problem["reason"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// A header as text; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The answer itself, when it is a success.
    ///
    /// # Errors
    /// When it is a refusal.
    pub fn success(self) -> Result<Self> {
        if !(200..300).contains(&self.status) {
            bail!("{}: refused with {}: {}", self.asked, self.status, self.text());
        }
        Ok(self)
    }

    /// The answer itself, when its status is `status`.
    ///
    /// # Errors
    /// When it has another status.
    pub fn expect(self, status: u16) -> Result<Self> {
        if self.status != status {
            bail!("{}: expected {status}, got {}: {}", self.asked, self.status, self.text());
        }
        Ok(self)
    }
}

/// A playback session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Id of the session.
    pub session_id: String,
    /// Playback token.
    pub token: String,
    /// Entry of the HLS, with the token.
    pub hls_url: Url,
    /// Entry of the DASH, with the token.
    pub dash_url: Url,
}

/// The edge, and who calls it.
#[derive(Debug, Clone)]
pub struct Rest {
    base: Url,
    bearer: Option<String>,
    headers: HeaderMap,
    http: reqwest::Client,
}

impl Rest {
    /// An anonymous client of the edge at `base`.
    ///
    /// # Errors
    /// When `base` is not an address.
    pub fn new(base: &str) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { base: base.parse()?, bearer: None, headers: HeaderMap::new(), http })
    }

    /// The same client with a credential.
    #[must_use]
    pub fn with_bearer(&self, bearer: impl Into<String>) -> Self {
        Self { bearer: Some(bearer.into()), ..self.clone() }
    }

    /// The same client with no credential.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { bearer: None, ..self.clone() }
    }

    /// The same client, with a header on each of its requests.
    #[must_use]
    pub fn with_header(&self, name: &'static str, value: &str) -> Self {
        let mut with = self.clone();
        if let Ok(value) = HeaderValue::from_str(value) {
            with.headers.insert(HeaderName::from_static(name), value);
        }
        with
    }

    /// Its credential.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        self.bearer.as_deref()
    }

    /// An address of the edge.
    ///
    /// # Errors
    /// When `path` makes no address.
    pub fn url(&self, path: &str) -> Result<Url> {
        Ok(self.base.join(path)?)
    }

    /// A request to a path or a whole address, with the credential.
    ///
    /// # Errors
    /// When `path` makes no address.
    pub fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let request = self.http.request(method, self.url(path)?).headers(self.headers.clone());
        Ok(match &self.bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Reply> {
        let request = request.build()?;
        let asked = format!("{} {}", request.method(), request.url().path());
        let answer = self.http.execute(request).await.with_context(|| asked.clone())?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await.with_context(|| format!("{asked}: the body broke off"))?;
        Ok(Reply { asked, status, headers, body })
    }

    /// GET.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Reply> {
        self.send(self.request(Method::GET, path)?).await
    }

    /// A call with a JSON body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Reply> {
        self.send(self.request(method, path)?.json(body)).await
    }

    /// POST with a JSON body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.call(Method::POST, path, body).await
    }

    /// A challenge for a wallet and the wallet's signature of it: `{challenge_id, signature}`.
    ///
    /// # Errors
    /// When no challenge is given.
    pub async fn signed_challenge(&self, wallet: &Wallet) -> Result<Value> {
        let challenge = self.get(&format!("/api/v1/auth/challenge?address={}&chain_id=31337", wallet.checksummed())).await?;
        let challenge = challenge.expect(200)?.json()?;
        let message = challenge["message"].as_str().context("the challenge's message")?;
        Ok(json!({"challenge_id": challenge["challenge_id"], "signature": wallet.sign(message)}))
    }

    /// This client, signed in with a wallet.
    ///
    /// # Errors
    /// When the wallet is not let in.
    pub async fn sign_in(&self, wallet: &Wallet) -> Result<Self> {
        let signed = self.anonymous().signed_challenge(wallet).await?;
        let tokens = self.anonymous().post("/api/v1/auth/login", &signed).await?.expect(200)?.json()?;
        Ok(self.with_bearer(tokens["access_token"].as_str().context("an access token")?))
    }

    /// Sends a file as one multipart body; gives the answer's fields.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn upload(&self, file: &Path, title: &str) -> Result<Value> {
        self.try_upload(file, title).await?.success()?.json()
    }

    /// Sends a file as one multipart body; gives the answer, refusal or not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_upload(&self, file: &Path, title: &str) -> Result<Reply> {
        let opened = tokio::fs::File::open(file).await.with_context(|| format!("open {}", file.display()))?;
        let size = opened.metadata().await?.len();
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let part = multipart::Part::stream_with_length(Body::wrap_stream(ReaderStream::new(opened)), size).file_name(name);
        let form = multipart::Form::new().text("title", title.to_owned()).part("file", part);
        self.send(self.request(Method::POST, "/api/v1/upload")?.multipart(form)).await
    }

    /// A title of the caller.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn content(&self, content_id: &str) -> Result<Value> {
        self.get(&format!("/api/v1/contents/{content_id}")).await?.expect(200)?.json()
    }

    /// Sets the gate of a title; gives the answer.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn set_gate(&self, content_id: &str, gate: &Value) -> Result<Value> {
        self.call(Method::PUT, &format!("/api/v1/contents/{content_id}/gate"), gate).await?.expect(200)?.json()
    }

    /// Asks for a playback session; gives the answer, refusal or not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_session(&self, playback_id: &str) -> Result<Reply> {
        self.post("/api/v1/sessions", &json!({"playback_id": playback_id})).await
    }

    /// Opens a playback session.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn session(&self, playback_id: &str) -> Result<Session> {
        let answer = self.try_session(playback_id).await?.expect(200)?.json()?;
        let field = |name: &str| answer[name].as_str().map(str::to_owned).with_context(|| format!("the session has no {name}"));
        Ok(Session {
            session_id: field("session_id")?,
            token: field("token")?,
            hls_url: self.url(&field("hls_url")?)?,
            dash_url: self.url(&field("dash_url")?)?,
        })
    }
}
