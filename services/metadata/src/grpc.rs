//! Decode, call, encode.

use streamgate_core::{Caller, time::to_timestamp};
use streamgate_proto::streamgate::metadata::v1::{self as pb, metadata_service_server::MetadataService};
use tonic::{Request, Response, Status};

use crate::{
    Error, command,
    engine::{Engine, List, Search},
    wire,
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
        Ok(Response::new(pb::CreateContentResponse { content: Some(content.try_into()?) }))
    }

    async fn get_content(&self, request: Request<pb::GetContentRequest>) -> Result<Response<pb::GetContentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = command::content_id(&request.into_inner().content_id)?;
        let content = self.engine.get(&caller, &id).await?;
        Ok(Response::new(pb::GetContentResponse { content: Some(content.try_into()?) }))
    }

    async fn update_content(
        &self,
        request: Request<pb::UpdateContentRequest>,
    ) -> Result<Response<pb::UpdateContentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = command::UpdateContent::try_from(request.into_inner())?;
        let content = self.engine.update(&caller, command).await?;
        Ok(Response::new(pb::UpdateContentResponse { content: Some(content) }))
    }

    async fn delete_content(
        &self,
        request: Request<pb::DeleteContentRequest>,
    ) -> Result<Response<pb::DeleteContentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = command::content_id(&request.content_id)?;
        let purge_ms = self.engine.delete(&caller, &id, expected(&request.etag)).await?;
        Ok(Response::new(pb::DeleteContentResponse { purge_time: Some(to_timestamp(purge_ms)) }))
    }

    async fn undelete_content(
        &self,
        request: Request<pb::UndeleteContentRequest>,
    ) -> Result<Response<pb::UndeleteContentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = command::content_id(&request.into_inner().content_id)?;
        let content = self.engine.undelete(&caller, &id).await?;
        Ok(Response::new(pb::UndeleteContentResponse { content: Some(content.try_into()?) }))
    }

    async fn purge_contents(
        &self,
        request: Request<pb::PurgeContentsRequest>,
    ) -> Result<Response<pb::PurgeContentsResponse>, Status> {
        let (purged, more) = self.engine.purge(request.into_inner().limit).await?;
        Ok(Response::new(pb::PurgeContentsResponse { purged, more }))
    }

    async fn list_contents(
        &self,
        request: Request<pb::ListContentsRequest>,
    ) -> Result<Response<pb::ListContentsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let list = List::try_from(&request)?;
        let page = self.engine.list(&caller, request.page_size, &request.page_token, &list).await?;
        Ok(Response::new(pb::ListContentsResponse {
            contents: wire::contents(page.contents)?,
            next_page_token: page.next_page_token,
        }))
    }

    async fn search_contents(
        &self,
        request: Request<pb::SearchContentsRequest>,
    ) -> Result<Response<pb::SearchContentsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let search = Search::try_from(&request)?;
        let page = self.engine.search(&caller, request.page_size, &request.page_token, &search).await?;
        Ok(Response::new(pb::SearchContentsResponse {
            contents: wire::contents(page.contents)?,
            next_page_token: page.next_page_token,
            facets: page.facets.into_iter().map(wire::facet).collect(),
            corrected: page.is_corrected,
        }))
    }

    async fn get_gate(&self, request: Request<pb::GetGateRequest>) -> Result<Response<pb::GetGateResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = command::content_id(&request.into_inner().content_id)?;
        let (gate, gate_hash) = wire::gate(self.engine.get(&caller, &id).await?.gate)?;
        Ok(Response::new(pb::GetGateResponse { gate, gate_hash }))
    }

    async fn set_gate(&self, request: Request<pb::SetGateRequest>) -> Result<Response<pb::SetGateResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = command::content_id(&request.content_id)?;
        let gate = command::gate(request.gate)?;
        let (gate, gate_hash) = wire::gate(self.engine.set_gate(&caller, &id, gate, expected(&request.etag)).await?)?;
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
        let request_id = command::repeatable(request.request_id)?;
        let playback_id = self.engine.create_playback_id(&caller, &id, gate, request_id.as_deref()).await?;
        Ok(Response::new(pb::CreatePlaybackIdResponse { playback_id }))
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
        let (gate, gate_hash) = wire::gate(found.gate)?;
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

/// An etag that must hold; an empty one is none.
fn expected(etag: &str) -> Option<&str> {
    (!etag.is_empty()).then_some(etag)
}
