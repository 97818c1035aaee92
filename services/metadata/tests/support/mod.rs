//! A service of titles on a folder of its own, and callers.
#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use streamgate_core::{
    Account, Caller, Failure, Identity, Role, ServiceName,
    ids::{AccountId, EventId, JobId},
};
use streamgate_metadata::{
    Config, Handler, Metrics,
    engine::{Changes, Engine},
};
use streamgate_proto::streamgate::{
    events::v1::{self as ev, Event, event::Payload},
    gate::v1::{Erc721, Group, Rule, rule::Kind},
    metadata::v1::{self as pb, metadata_service_server::MetadataService},
};
use streamgate_store::{Database, EventHandler, Outbox, PostgresServer};
use tonic::{Request, Status};

/// Runs each case on both engines: by itself on SQLite, and all after each other on one PostgreSQL server.
#[allow(unused_macros, reason = "each test file uses a part")]
macro_rules! on_both_engines {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::support::Fixture::open().await).await;
            })*
        }

        #[tokio::test]
        async fn postgres_does_all_of_this() {
            let postgres = streamgate_testkit::engines::Postgres::start().await.unwrap();
            let server = streamgate_store::PostgresServer::parse(&postgres.url()).unwrap();
            let mut number = 0;
            $(
                number += 1;
                let schema = format!("case_{number}");
                println!("{}", stringify!($case));
                $case(support::Fixture::on_postgres(&server, &schema, streamgate_metadata::Config::default()).await).await;
            )*
        }
    };
}
#[allow(unused_imports, reason = "each test file uses a part")]
pub(crate) use on_both_engines;

/// The service, and the folder it lives in.
pub struct Fixture {
    pub handler: Handler,
    pub engine: Arc<Engine>,
    pub db: Database,
    _folder: Option<tempfile::TempDir>,
}

impl Fixture {
    pub async fn open() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(&folder.path().join("metadata.db"), &streamgate_metadata::MIGRATIONS).await.unwrap();
        Self::over(db, config, Some(folder))
    }

    /// The same on a server, in a schema of its own.
    pub async fn on_postgres(server: &PostgresServer, schema: &str, config: Config) -> Self {
        let db = Database::connect(server, schema, &streamgate_metadata::MIGRATIONS).await.unwrap();
        Self::over(db, config, None)
    }

    pub fn over(db: Database, config: Config, folder: Option<tempfile::TempDir>) -> Self {
        let outbox = Outbox::new(ServiceName::Metadata);
        let engine = Engine::new(db.clone(), outbox, Metrics::default(), config, Changes::untold());
        Self { handler: Handler::new(engine.clone()), engine: Arc::new(engine), db, _folder: folder }
    }

    pub async fn create(&self, caller: &Caller, title: &str) -> pb::Content {
        self.create_with(caller, pb::CreateContentRequest { title: title.into(), ..Default::default() }).await.unwrap()
    }

    pub async fn create_with(&self, caller: &Caller, request: pb::CreateContentRequest) -> Result<pb::Content, Status> {
        Ok(self.handler.create_content(call(caller, request)).await?.into_inner().content.unwrap())
    }

    pub async fn get(&self, caller: &Caller, id: &str) -> Result<pb::Content, Status> {
        let request = pb::GetContentRequest { content_id: id.into() };
        Ok(self.handler.get_content(call(caller, request)).await?.into_inner().content.unwrap())
    }

    pub async fn update(&self, caller: &Caller, request: pb::UpdateContentRequest) -> Result<pb::Content, Status> {
        Ok(self.handler.update_content(call(caller, request)).await?.into_inner().content.unwrap())
    }

    pub async fn delete(&self, caller: &Caller, id: &str) -> Result<(), Status> {
        self.handler
            .delete_content(call(caller, pb::DeleteContentRequest { content_id: id.into(), ..Default::default() }))
            .await
            .map(drop)
    }

    pub async fn set_gate(&self, caller: &Caller, id: &str, gate: Option<Rule>) -> Result<pb::SetGateResponse, Status> {
        Ok(self
            .handler
            .set_gate(call(caller, pb::SetGateRequest { content_id: id.into(), gate, ..Default::default() }))
            .await?
            .into_inner())
    }

    pub async fn add_playback_id(&self, caller: &Caller, id: &str, gate: Option<Rule>) -> Result<String, Status> {
        let request = pb::CreatePlaybackIdRequest { content_id: id.into(), gate, ..Default::default() };
        Ok(self.handler.create_playback_id(call(caller, request)).await?.into_inner().playback_id)
    }

    pub async fn delete_playback_id(&self, caller: &Caller, id: &str, playback_id: &str) -> Result<(), Status> {
        let request = pb::DeletePlaybackIdRequest { content_id: id.into(), playback_id: playback_id.into() };
        self.handler.delete_playback_id(call(caller, request)).await.map(drop)
    }

    pub async fn info(&self, playback_id: &str) -> Result<pb::GetPlaybackInfoResponse, Status> {
        let request = pb::GetPlaybackInfoRequest { playback_id: playback_id.into() };
        Ok(self.handler.get_playback_info(call(&anonymous(), request)).await?.into_inner())
    }

    pub async fn resolve(&self, playback_id: &str) -> Result<pb::ResolvePlaybackResponse, Status> {
        let request = pb::ResolvePlaybackRequest { playback_id: playback_id.into() };
        Ok(self.handler.resolve_playback(call(&as_service(), request)).await?.into_inner())
    }

    /// Titles of the first page of a search.
    pub async fn search(&self, caller: &Caller, query: &str) -> Result<Vec<String>, Status> {
        let request = pb::SearchContentsRequest { query: query.into(), ..Default::default() };
        let page = self.handler.search_contents(call(caller, request)).await?.into_inner();
        Ok(page.contents.into_iter().map(|content| content.title).collect())
    }

    /// The same for titles of a status.
    pub async fn list_all(&self, caller: &Caller, page_size: u32, status: &str) -> Vec<String> {
        self.list(caller, pb::ListContentsRequest { page_size, status: status.into(), ..Default::default() }).await
    }

    /// Every title of a list, page by page.
    pub async fn list(&self, caller: &Caller, request: pb::ListContentsRequest) -> Vec<String> {
        let (mut titles, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListContentsRequest { page_token, ..request.clone() };
            let page = self.handler.list_contents(call(caller, request)).await.unwrap().into_inner();
            titles.extend(page.contents.into_iter().map(|content| content.title));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return titles;
            }
        }
    }

    pub async fn undelete(&self, caller: &Caller, id: &str) -> Result<pb::Content, Status> {
        let request = pb::UndeleteContentRequest { content_id: id.into() };
        Ok(self.handler.undelete_content(call(caller, request)).await?.into_inner().content.unwrap())
    }

    pub async fn purge(&self, limit: u32) -> pb::PurgeContentsResponse {
        self.handler.purge_contents(call(&as_service(), pb::PurgeContentsRequest { limit })).await.unwrap().into_inner()
    }

    pub async fn deliver(&self, event: Event) -> Result<(), Failure> {
        self.engine.handle(event).await
    }

    /// The failure of every call that names a title.
    pub async fn try_every_call(&self, caller: &Caller, content: &pb::Content) -> Vec<(&'static str, Status)> {
        let id = &content.content_id;
        let update = pb::UpdateContentRequest { content_id: id.clone(), title: Some("taken".into()), ..Default::default() };
        let gate = self.handler.get_gate(call(caller, pb::GetGateRequest { content_id: id.clone() })).await;
        vec![
            ("get", self.get(caller, id).await.unwrap_err()),
            ("update", self.update(caller, update).await.unwrap_err()),
            ("delete", self.delete(caller, id).await.unwrap_err()),
            ("get gate", gate.unwrap_err()),
            ("undelete", self.undelete(caller, id).await.unwrap_err()),
            ("set gate", self.set_gate(caller, id, None).await.unwrap_err()),
            ("add playback id", self.add_playback_id(caller, id, None).await.unwrap_err()),
            ("delete playback id", self.delete_playback_id(caller, id, &content.playback_ids[0]).await.unwrap_err()),
        ]
    }

    /// The events that wait in the outbox, oldest first.
    pub async fn outbox(&self) -> Vec<Event> {
        support_outbox(&self.db).await
    }

    /// Types of the events that wait in the outbox, oldest first.
    pub async fn outbox_types(&self) -> Vec<String> {
        self.outbox()
            .await
            .iter()
            .map(|event| streamgate_core::events::event_type(event.payload.as_ref().unwrap()).to_owned())
            .collect()
    }
}

async fn support_outbox(db: &Database) -> Vec<Event> {
    use prost::Message as _;
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT body FROM outbox_events ORDER BY seq").fetch_all(db.pool()).await.unwrap();
    rows.iter().map(|row| Event::decode(row.as_slice()).unwrap()).collect()
}

pub fn call<T>(caller: &Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller.clone());
    request
}

fn caller(identity: Identity) -> Caller {
    Caller { identity, request_id: "test".into() }
}

pub fn as_account(role: Role) -> Caller {
    caller(Identity::Account(Account { id: AccountId::new(), role, wallet: None }))
}

pub fn as_service() -> Caller {
    caller(Identity::Service { name: ServiceName::Streaming, on_behalf_of: None })
}

pub fn anonymous() -> Caller {
    caller(Identity::Anonymous)
}

/// A gate that asks for one token of a collection.
pub fn nft(chain: &str, contract: &str) -> Rule {
    let leaf = Erc721 { chain: chain.into(), contract: contract.into(), min_balance: "1".into(), token_id: String::new() };
    Rule { kind: Some(Kind::All(Group { rules: vec![Rule { kind: Some(Kind::Erc721(leaf)) }] })) }
}

pub fn reason(status: &Status) -> String {
    Failure::from(status).reason.into_owned()
}

pub fn event(content_id: &str, payload: Payload) -> Event {
    Event { id: EventId::new().into(), subject: content_id.into(), payload: Some(payload), ..Default::default() }
}

/// What a title hears from its upload to its last segment.
pub fn life_of(content_id: &str) -> Vec<Event> {
    let (content, job_id) = (content_id.to_owned(), JobId::new().to_string());
    [
        Payload::FileUploaded(ev::FileUploaded { content_id: content.clone(), ..Default::default() }),
        Payload::TranscodingStarted(ev::TranscodingStarted {
            job_id: job_id.clone(),
            content_id: content.clone(),
            ..Default::default()
        }),
        Payload::TranscodingProgressed(ev::TranscodingProgressed {
            job_id: job_id.clone(),
            content_id: content.clone(),
            progress: 0.3,
            ..Default::default()
        }),
        Payload::RenditionReady(ev::RenditionReady { job_id: job_id.clone(), content_id: content.clone(), ..Default::default() }),
        Payload::TranscodingCompleted(ev::TranscodingCompleted {
            job_id,
            content_id: content,
            duration_ms: 51_000,
            width: 1280,
            height: 720,
            size_bytes: 1,
            ..Default::default()
        }),
    ]
    .into_iter()
    .map(|payload| event(content_id, payload))
    .collect()
}

pub fn failed(content_id: &str, reason: &str) -> Event {
    let failed = ev::TranscodingFailed {
        job_id: JobId::new().into(),
        content_id: content_id.into(),
        reason: reason.into(),
        detail: "there is nothing in this file to play".into(),
        ..Default::default()
    };
    event(content_id, Payload::TranscodingFailed(failed))
}

pub fn abandoned(content_id: &str, reason: &str) -> Event {
    let gone = ev::UploadAbandoned {
        upload_id: String::new(),
        content_id: content_id.into(),
        reason: reason.into(),
        ..Default::default()
    };
    event(content_id, Payload::UploadAbandoned(gone))
}
