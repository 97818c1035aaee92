//! Decode, call, encode.

use std::sync::Arc;

use futures::{StreamExt as _, stream, stream::BoxStream};
use streamgate_core::{
    Caller, Failure,
    time::{now_ms, to_timestamp},
};
use streamgate_media::choice::{BadFrame, Choice};
use streamgate_proto::streamgate::streaming::v1::{
    self as pb, read_asset_response::Part, streaming_service_server::StreamingService,
};
use tonic::{Request, Response, Status};

use crate::engine::{
    Engine, Wanted,
    asset::{Asset, AssetRequest, Header, Span},
    session::{Session, State},
};

/// The service as gRPC sees it.
#[derive(Debug, Clone)]
pub struct Handler {
    engine: Arc<Engine>,
}

impl Handler {
    /// Answers from `engine`.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl StreamingService for Handler {
    type ReadAssetStream = BoxStream<'static, Result<pb::ReadAssetResponse, Status>>;

    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let body = request.into_inner();
        let opened = self.engine.open(&caller, &body.playback_id, &decode_choice(body.choice)?).await?;
        Ok(Response::new(pb::CreateSessionResponse {
            session_id: opened.session_id,
            token: opened.token,
            hls_url: opened.hls_url,
            dash_url: opened.dash_url,
            expires_at: Some(to_timestamp(opened.expires_ms)),
        }))
    }

    async fn get_session(&self, request: Request<pb::GetSessionRequest>) -> Result<Response<pb::GetSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let session = self.engine.session(&caller, &request.into_inner().session_id).await?;
        Ok(Response::new(pb::GetSessionResponse { session: Some(encode_session(session)) }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let wanted =
            Wanted { playback_id: request.playback_id, content_id: request.content_id, active_only: request.active_only };
        let (sessions, next_page_token) = self.engine.list(&caller, wanted, request.page_size, &request.page_token).await?;
        let sessions = sessions.into_iter().map(encode_session).collect();
        Ok(Response::new(pb::ListSessionsResponse { sessions, next_page_token }))
    }

    async fn end_session(&self, request: Request<pb::EndSessionRequest>) -> Result<Response<pb::EndSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let session = self.engine.end(&caller, &request.into_inner().session_id).await?;
        Ok(Response::new(pb::EndSessionResponse { session: Some(encode_session(session)) }))
    }

    async fn get_stream_info(
        &self,
        request: Request<pb::GetStreamInfoRequest>,
    ) -> Result<Response<pb::GetStreamInfoResponse>, Status> {
        let caller = Caller::of(&request)?;
        let body = request.into_inner();
        one_title(&body.playback_id, &body.content_id)?;
        Ok(Response::new(self.engine.info(&caller, &body.playback_id, &body.content_id, &body.token).await?))
    }

    async fn read_asset(&self, request: Request<pb::ReadAssetRequest>) -> Result<Response<Self::ReadAssetStream>, Status> {
        let caller = Caller::of(&request)?;
        let asset = self.engine.read(&caller, &decode_asset(request.into_inner())?).await?;
        Ok(Response::new(encode_asset(asset)))
    }
}

fn one_title(playback_id: &str, content_id: &str) -> Result<(), Failure> {
    match (playback_id.is_empty(), content_id.is_empty()) {
        (true, true) => Err(Failure::invalid_field("playback_id", "give a playback_id or a content_id")),
        (false, false) => Err(Failure::invalid_field("playback_id", "give a playback_id or a content_id, not both")),
        _ => Ok(()),
    }
}

fn decode_choice(choice: Option<pb::Choice>) -> Result<Choice, Failure> {
    let Some(choice) = choice else { return Ok(Choice::default()) };
    let largest = match choice.max_resolution.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|bad: BadFrame| Failure::invalid_field("max_resolution", bad.to_string()))?),
    };
    Ok(Choice { largest, bandwidth: Some(choice.bandwidth).filter(|most| *most > 0) })
}

fn decode_asset(request: pb::ReadAssetRequest) -> Result<AssetRequest, Failure> {
    let span = request.range.and_then(|range| match (range.start, range.last_bytes) {
        (None, Some(count)) => Some(Span::Last(count)),
        (Some(first), None) => Some(Span::From(first, range.end)),
        // Neither or both mean nothing, and HTTP says to ignore such a range.
        _ => None,
    });
    Ok(AssetRequest {
        choice: decode_choice(request.choice)?,
        playback_id: request.playback_id,
        content_id: request.content_id,
        path: request.path,
        token: request.token,
        token_in_url: request.token_in_url,
        span,
        if_none_match: request.if_none_match,
        head_only: request.head_only,
    })
}

fn encode_asset(asset: Asset) -> BoxStream<'static, Result<pb::ReadAssetResponse, Status>> {
    let header = pb::ReadAssetResponse { part: Some(Part::Header(encode_header(asset.header))) };
    let chunks = asset.body.map(|chunk| match chunk {
        Ok(bytes) => Ok(pb::ReadAssetResponse { part: Some(Part::Chunk(bytes)) }),
        Err(error) => {
            tracing::warn!(%error, "reading a stored segment broke off");
            Err(Status::unavailable("reading the file broke off"))
        }
    });
    stream::iter([Ok(header)]).chain(chunks).boxed()
}

fn encode_header(header: Header) -> pb::AssetHeader {
    let (new_token, new_token_expires_at) =
        header.new_token.map(|(token, ms)| (token, Some(to_timestamp(ms)))).unwrap_or_default();
    pb::AssetHeader {
        content_type: header.content_type.to_owned(),
        etag: header.etag,
        size_bytes: header.size_bytes,
        offset_bytes: header.range.start,
        length_bytes: header.range.end - header.range.start,
        partial: header.partial,
        not_modified: header.not_modified,
        immutable: header.immutable,
        new_token,
        new_token_expires_at,
    }
}

fn encode_session(session: Session) -> pb::Session {
    let state = match session.standing.state {
        State::Active if session.expires_ms <= now_ms() => pb::SessionState::Expired,
        State::Active => pb::SessionState::Active,
        State::Ended => pb::SessionState::Ended,
        State::Revoked => pb::SessionState::Revoked,
    };
    pb::Session {
        session_id: session.id,
        playback_id: session.playback_id,
        account: session.account_id.unwrap_or_default(),
        state: state.into(),
        reason: session.standing.reason,
        create_time: Some(to_timestamp(session.created_ms)),
        expire_time: Some(to_timestamp(session.expires_ms)),
        last_check_time: (session.standing.checked_ms > 0).then(|| to_timestamp(session.standing.checked_ms)),
    }
}
