//! Decode, call, encode.

use streamgate_core::{Caller, time::to_timestamp};
use streamgate_proto::streamgate::{
    gate::v1::Rule,
    metadata::v1::{self as pb, metadata_service_server::MetadataService},
};
use tonic::{Request, Response, Status};

use crate::{
    Error, command,
    engine::{Content, ContentPage, Engine, StoredGate},
};

/// The service as gRPC sees it.
#[derive(Debug, Clone)]
pub struct Handler {
    engine: Engine,
}

impl Handler {
    /// Answers from `engine`.
    #[must_use]
    pub const fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl MetadataService for Handler {
    async fn create_content(
        &self,
        request: Request<pb::CreateContentRequest>,
    ) -> Result<Response<pb::CreateContentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = command::CreateContent::try_from(request.into_inner())?;
        let content = self.engine.create(&caller, command).await?;
        Ok(Response::new(pb::CreateContentResponse { content: Some(encode(content)?) }))
    }

    async fn get_content(&self, request: Request<pb::GetContentRequest>) -> Result<Response<pb::GetContentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = command::content_id(&request.into_inner().content_id)?;
        let content = self.engine.get(&caller, &id).await?;
        Ok(Response::new(pb::GetContentResponse { content: Some(encode(content)?) }))
    }

    async fn update_content(
        &self,
        request: Request<pb::UpdateContentRequest>,
    ) -> Result<Response<pb::UpdateContentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = command::UpdateContent::try_from(request.into_inner())?;
        let content = self.engine.update(&caller, command).await?;
        Ok(Response::new(pb::UpdateContentResponse { content: Some(encode(content)?) }))
    }

    async fn delete_content(
        &self,
        request: Request<pb::DeleteContentRequest>,
    ) -> Result<Response<pb::DeleteContentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = command::content_id(&request.into_inner().content_id)?;
        self.engine.delete(&caller, &id).await?;
        Ok(Response::new(pb::DeleteContentResponse {}))
    }

    async fn list_contents(
        &self,
        request: Request<pb::ListContentsRequest>,
    ) -> Result<Response<pb::ListContentsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let status = command::status_filter(&request.status)?;
        let page = self.engine.list(&caller, request.page_size, &request.page_token, status).await?;
        let (contents, next_page_token) = encode_page(page)?;
        Ok(Response::new(pb::ListContentsResponse { contents, next_page_token }))
    }

    async fn search_contents(
        &self,
        request: Request<pb::SearchContentsRequest>,
    ) -> Result<Response<pb::SearchContentsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let words = command::search_query(&request.query)?;
        let page = self.engine.search(&caller, &words, request.page_size, &request.page_token).await?;
        let (contents, next_page_token) = encode_page(page)?;
        Ok(Response::new(pb::SearchContentsResponse { contents, next_page_token }))
    }

    async fn get_gate(&self, request: Request<pb::GetGateRequest>) -> Result<Response<pb::GetGateResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = command::content_id(&request.into_inner().content_id)?;
        let (gate, gate_hash) = encode_gate(self.engine.get(&caller, &id).await?.gate)?;
        Ok(Response::new(pb::GetGateResponse { gate, gate_hash }))
    }

    async fn set_gate(&self, request: Request<pb::SetGateRequest>) -> Result<Response<pb::SetGateResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = command::content_id(&request.content_id)?;
        let gate = command::gate(request.gate)?;
        let (gate, gate_hash) = encode_gate(self.engine.set_gate(&caller, &id, gate).await?)?;
        Ok(Response::new(pb::SetGateResponse { gate, gate_hash }))
    }

    async fn create_playback_id(
        &self,
        request: Request<pb::CreatePlaybackIdRequest>,
    ) -> Result<Response<pb::CreatePlaybackIdResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = command::content_id(&request.content_id)?;
        let gate = command::gate(request.gate)?;
        let playback_id = self.engine.create_playback_id(&caller, &id, gate).await?;
        Ok(Response::new(pb::CreatePlaybackIdResponse { playback_id: playback_id.into() }))
    }

    async fn delete_playback_id(
        &self,
        request: Request<pb::DeletePlaybackIdRequest>,
    ) -> Result<Response<pb::DeletePlaybackIdResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = command::content_id(&request.content_id)?;
        let playback_id = command::playback_id(&request.playback_id)?;
        self.engine.delete_playback_id(&caller, &id, &playback_id).await?;
        Ok(Response::new(pb::DeletePlaybackIdResponse {}))
    }

    async fn get_playback_info(
        &self,
        request: Request<pb::GetPlaybackInfoRequest>,
    ) -> Result<Response<pb::GetPlaybackInfoResponse>, Status> {
        let id = public_id(&request.into_inner().playback_id)?;
        let info = self.engine.playback_info(&id).await?;
        Ok(Response::new(pb::GetPlaybackInfoResponse {
            playback_id: id.into(),
            title: info.title,
            requirements: info.requirements,
            open: info.open,
            playable: info.playable,
        }))
    }

    async fn resolve_playback(
        &self,
        request: Request<pb::ResolvePlaybackRequest>,
    ) -> Result<Response<pb::ResolvePlaybackResponse>, Status> {
        let id = public_id(&request.into_inner().playback_id)?;
        let found = self.engine.resolve(&id).await?;
        let (gate, gate_hash) = encode_gate(found.gate)?;
        Ok(Response::new(pb::ResolvePlaybackResponse {
            content_id: found.content_id,
            owner: found.owner,
            gate,
            gate_hash,
            playable: found.playable,
            status: found.status,
            title: found.title,
        }))
    }
}

/// A text that can't be a public id is one that does not exist: a stranger typed or guessed it.
fn public_id(text: &str) -> Result<streamgate_core::ids::PlaybackId, Error> {
    text.parse().map_err(|_| Error::UnknownPlaybackId(text.chars().take(64).collect()))
}

fn encode_page(page: ContentPage) -> Result<(Vec<pb::Content>, String), Error> {
    let contents = page.contents.into_iter().map(encode).collect::<Result<_, _>>()?;
    Ok((contents, page.next_page_token))
}

fn encode_gate(gate: Option<StoredGate>) -> Result<(Option<Rule>, String), Error> {
    match gate {
        Some(stored) => Ok((Some(stored.rule()?), stored.hash)),
        None => Ok((None, String::new())),
    }
}

fn encode(content: Content) -> Result<pb::Content, Error> {
    let stage = content.stage;
    let (gate, gate_hash) = encode_gate(content.gate)?;
    let is_errored = !stage.error_reason.is_empty();
    Ok(pb::Content {
        content_id: content.content_id,
        owner: content.owner,
        title: content.title,
        description: content.description,
        tags: content.tags,
        status: stage.status.to_string(),
        progress: stage.progress,
        playable: stage.playable,
        playback_ids: content.playback_ids,
        gate,
        gate_hash,
        error: is_errored.then_some(pb::ContentError { reason: stage.error_reason, detail: stage.error_detail }),
        duration_ms: stage.duration_ms,
        width: stage.width,
        height: stage.height,
        create_time: Some(to_timestamp(content.create_ms)),
        update_time: Some(to_timestamp(content.update_ms)),
        revision: content.revision,
    })
}
