//! Webhooks: decode, call, encode.

use streamgate_core::{Caller, time::to_timestamp};
use streamgate_proto::streamgate::worker::v1::{self as pb, webhook_service_server::WebhookService};
use tonic::{Request, Response, Status};

use crate::{
    command,
    webhooks::{Changes, Delivery, DeliveryState, Endpoint, NewEndpoint, Webhooks, sender::Attempt},
};

/// Webhooks as gRPC sees them.
#[derive(Debug, Clone)]
pub struct WebhookHandler {
    webhooks: Webhooks,
}

impl WebhookHandler {
    /// Answers from `webhooks`.
    #[must_use]
    pub const fn new(webhooks: Webhooks) -> Self {
        Self { webhooks }
    }
}

#[tonic::async_trait]
impl WebhookService for WebhookHandler {
    async fn create_endpoint(
        &self,
        request: Request<pb::CreateEndpointRequest>,
    ) -> Result<Response<pb::CreateEndpointResponse>, Status> {
        let caller = Caller::of(&request)?;
        let pb::CreateEndpointRequest { url, description, event_types, all_owners } = request.into_inner();
        let new = NewEndpoint { url, description, event_types, all_owners };
        let (endpoint, secret) = self.webhooks.create(&caller, new).await?;
        Ok(Response::new(pb::CreateEndpointResponse { endpoint: Some(endpoint.into()), secret: secret.reveal() }))
    }

    async fn get_endpoint(&self, request: Request<pb::GetEndpointRequest>) -> Result<Response<pb::GetEndpointResponse>, Status> {
        let caller = Caller::of(&request)?;
        let endpoint = self.webhooks.endpoint(&caller, &command::endpoint_id(&request.get_ref().endpoint_id)?).await?;
        Ok(Response::new(pb::GetEndpointResponse { endpoint: Some(endpoint.into()) }))
    }

    async fn list_endpoints(
        &self,
        request: Request<pb::ListEndpointsRequest>,
    ) -> Result<Response<pb::ListEndpointsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let page = self.webhooks.list(&caller, request.page_size, &request.page_token).await?;
        let endpoints = page.endpoints.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListEndpointsResponse { endpoints, next_page_token: page.next_page_token }))
    }

    async fn update_endpoint(
        &self,
        request: Request<pb::UpdateEndpointRequest>,
    ) -> Result<Response<pb::UpdateEndpointResponse>, Status> {
        let caller = Caller::of(&request)?;
        let pb::UpdateEndpointRequest { endpoint_id, url, description, event_types, enabled } = request.into_inner();
        let changes = Changes { url, description, event_types: event_types.map(|types| types.types), enabled };
        let endpoint = self.webhooks.update(&caller, &command::endpoint_id(&endpoint_id)?, changes).await?;
        Ok(Response::new(pb::UpdateEndpointResponse { endpoint: Some(endpoint.into()) }))
    }

    async fn delete_endpoint(
        &self,
        request: Request<pb::DeleteEndpointRequest>,
    ) -> Result<Response<pb::DeleteEndpointResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.webhooks.delete(&caller, &command::endpoint_id(&request.get_ref().endpoint_id)?).await?;
        Ok(Response::new(pb::DeleteEndpointResponse {}))
    }

    async fn rotate_secret(
        &self,
        request: Request<pb::RotateSecretRequest>,
    ) -> Result<Response<pb::RotateSecretResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (secret, until) = self.webhooks.rotate(&caller, &command::endpoint_id(&request.get_ref().endpoint_id)?).await?;
        let old_secret_expire_time = Some(to_timestamp(until));
        Ok(Response::new(pb::RotateSecretResponse { secret: secret.reveal(), old_secret_expire_time }))
    }

    async fn send_test_event(
        &self,
        request: Request<pb::SendTestEventRequest>,
    ) -> Result<Response<pb::SendTestEventResponse>, Status> {
        let caller = Caller::of(&request)?;
        let delivery = self.webhooks.send_test(&caller, &command::endpoint_id(&request.get_ref().endpoint_id)?).await?;
        Ok(Response::new(pb::SendTestEventResponse { delivery: Some(delivery.into()) }))
    }

    async fn list_deliveries(
        &self,
        request: Request<pb::ListDeliveriesRequest>,
    ) -> Result<Response<pb::ListDeliveriesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let (id, state) = (command::endpoint_id(&request.endpoint_id)?, command::delivery_state(request.state)?);
        let page = self.webhooks.deliveries(&caller, &id, state, request.page_size, &request.page_token).await?;
        let deliveries = page.deliveries.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListDeliveriesResponse { deliveries, next_page_token: page.next_page_token }))
    }

    async fn get_delivery(&self, request: Request<pb::GetDeliveryRequest>) -> Result<Response<pb::GetDeliveryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = command::delivery_id(&request.get_ref().delivery_id)?;
        let (delivery, body, attempts) = self.webhooks.delivery(&caller, &id).await?;
        Ok(Response::new(pb::GetDeliveryResponse {
            delivery: Some(delivery.into()),
            body: String::from_utf8_lossy(&body).into_owned(),
            attempts: attempts.into_iter().map(Into::into).collect(),
        }))
    }

    async fn replay_delivery(
        &self,
        request: Request<pb::ReplayDeliveryRequest>,
    ) -> Result<Response<pb::ReplayDeliveryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let delivery = self.webhooks.replay(&caller, &command::delivery_id(&request.get_ref().delivery_id)?).await?;
        Ok(Response::new(pb::ReplayDeliveryResponse { delivery: Some(delivery.into()) }))
    }

    async fn replay_deliveries(
        &self,
        request: Request<pb::ReplayDeliveriesRequest>,
    ) -> Result<Response<pb::ReplayDeliveriesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let (id, replay) = (command::endpoint_id(&request.endpoint_id)?, command::replay(&request)?);
        let (replayed, next_page_token) = self.webhooks.replay_all(&caller, &id, &replay).await?;
        Ok(Response::new(pb::ReplayDeliveriesResponse { replayed, more: !next_page_token.is_empty(), next_page_token }))
    }
}

impl From<Endpoint> for pb::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            endpoint_id: endpoint.endpoint_id,
            url: endpoint.url,
            description: endpoint.description,
            event_types: endpoint.event_types,
            enabled: endpoint.enabled,
            disabled_reason: endpoint.disabled_reason,
            owner: endpoint.owner,
            all_owners: endpoint.all_owners,
            create_time: Some(to_timestamp(endpoint.create_ms)),
            update_time: Some(to_timestamp(endpoint.update_ms)),
            failing_since: endpoint.failing_ms.map(to_timestamp),
        }
    }
}

impl From<Delivery> for pb::Delivery {
    fn from(delivery: Delivery) -> Self {
        let state = match delivery.state {
            DeliveryState::Pending => pb::DeliveryState::Pending,
            DeliveryState::Delivered => pb::DeliveryState::Delivered,
            DeliveryState::Failed => pb::DeliveryState::Failed,
        };
        Self {
            delivery_id: delivery.delivery_id,
            endpoint_id: delivery.endpoint_id,
            message_id: delivery.message_id,
            event_type: delivery.event_type,
            state: state.into(),
            attempts: delivery.attempts,
            create_time: Some(to_timestamp(delivery.create_ms)),
            end_time: delivery.end_ms.map(to_timestamp),
            last_attempt: delivery.last_attempt.map(Into::into),
        }
    }
}

impl From<Attempt> for pb::Attempt {
    fn from(attempt: Attempt) -> Self {
        Self {
            time: Some(to_timestamp(attempt.at_ms)),
            status: attempt.status.map_or(0, u32::from),
            latency_ms: attempt.latency_ms,
            error: attempt.error,
            response: attempt.response,
        }
    }
}
