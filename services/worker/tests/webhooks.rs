//! Webhooks, from an event to a receiver on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode};
use streamgate_core::{
    Account, Role,
    ids::{DeliveryId, EventId},
    time::now_ms,
};
use streamgate_proto::streamgate::{
    events::v1::{Event, FileUploaded, JobCompleted, event::Payload},
    worker::v1::{self as pb, webhook_service_server::WebhookService},
};
use streamgate_store::EventHandler as _;
use streamgate_worker::{
    AttemptLabels, Config, Metrics, WebhookHandler,
    engine::{End, Lane, Runner, State as JobState},
    jobs::{DeliverWebhook, Registry},
    webhooks::{
        Webhooks,
        guard::{Guard, SystemNames},
        sender::{Parcel, Sender},
        signature::Secret,
    },
};
use support::{AT_ONCE, Fixture, LEASE, asked, asked_by, operator};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;

const BOUND: Duration = Duration::from_secs(20);

/// A receiver that notes what it gets and answers from a list, then 200.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
}

impl Receiver {
    async fn start(answers: &[u16]) -> (Self, String) {
        let receiver = Self::default();
        receiver.answers.lock().unwrap().extend(answers.iter().map(|status| StatusCode::from_u16(*status).unwrap()));
        let router = Router::new().route("/hook", post(take)).with_state(receiver.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn bodies(&self) -> Vec<serde_json::Value> {
        self.got.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }
}

async fn take(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, String); 1], String) {
    receiver.got.lock().unwrap().push((headers, body));
    let status = receiver.answers.lock().unwrap().pop_front().unwrap_or(StatusCode::OK);
    (status, [("location", "http://127.0.0.1:1/elsewhere".to_owned())], "x".repeat(5_000))
}

struct House {
    jobs: Fixture,
    webhooks: Webhooks,
    handler: WebhookHandler,
    stop: CancellationToken,
    metrics: Metrics,
}

impl House {
    /// With nobody who delivers.
    fn quiet(jobs: Fixture) -> Self {
        let (webhooks, stop, metrics) = (jobs.webhooks(), CancellationToken::new(), Metrics::default());
        Self { handler: WebhookHandler::new(webhooks.clone()), jobs, webhooks, stop, metrics }
    }

    fn open(jobs: Fixture) -> Self {
        let house = Self::quiet(jobs);
        let registry = Registry::default().with(DeliverWebhook::new(house.webhooks.clone()));
        let config = Config { webhook_concurrency: AT_ONCE, ..Config::default() };
        let runner = Runner::new(house.jobs.queue.of_lane(Lane::Deliveries), registry, house.metrics.clone(), config);
        tokio::spawn(runner.run(house.stop.clone()));
        house
    }

    async fn endpoint(&self, account: Account, url: &str, types: &[&str]) -> (pb::Endpoint, Secret) {
        let all_owners = account.role == Role::Operator;
        let event_types = types.iter().map(|name| (*name).to_owned()).collect();
        let request = pb::CreateEndpointRequest { url: url.into(), event_types, all_owners, ..Default::default() };
        let made = self.handler.create_endpoint(asked_by(account, request)).await.unwrap().into_inner();
        let secret = STANDARD.decode(made.secret.strip_prefix("whsec_").unwrap()).unwrap();
        (made.endpoint.unwrap(), Secret::stored(secret))
    }

    async fn uploaded(&self, owner: &str) -> Event {
        let payload = FileUploaded { owner: owner.into(), content_id: "cnt_1".into(), ..FileUploaded::default() };
        let event = Event { id: EventId::new().to_string(), payload: Some(Payload::FileUploaded(payload)), ..Event::default() };
        self.webhooks.handle(event.clone()).await.unwrap();
        event
    }

    async fn deliveries(&self, endpoint: &pb::Endpoint) -> Vec<pb::Delivery> {
        let request = pb::ListDeliveriesRequest { endpoint_id: endpoint.endpoint_id.clone(), ..Default::default() };
        self.handler.list_deliveries(asked(request)).await.unwrap().into_inner().deliveries
    }

    /// Waits until the newest delivery is in `state`.
    async fn wait_for(&self, endpoint: &pb::Endpoint, state: pb::DeliveryState) -> pb::Delivery {
        let reached = async {
            loop {
                if let Some(delivery) = self.deliveries(endpoint).await.into_iter().next().filter(|found| found.state() == state)
                {
                    return delivery;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(BOUND, reached).await.expect("the delivery did not come to the state in time")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn creator(number: u8) -> Account {
    Account { id: format!("acc_{number:032x}").parse().unwrap(), role: Role::Creator, wallet: None }
}

async fn an_event_reaches_its_receiver_signed_and_once() {
    let jobs = Fixture::open().await;
    let house = House::open(jobs);
    let (receiver, url) = Receiver::start(&[]).await;
    let (endpoint, secret) = house.endpoint(operator(), &url, &["file.uploaded"]).await;
    let event = house.uploaded("acc_x").await;
    house.webhooks.handle(event.clone()).await.unwrap();
    let delivery = house.wait_for(&endpoint, pb::DeliveryState::Delivered).await;
    assert_eq!((delivery.message_id.as_str(), delivery.attempts), (event.id.as_str(), 1));
    let attempt = delivery.last_attempt.clone().unwrap();
    assert_eq!((attempt.status, attempt.response.len()), (200, 1_000), "the answer is kept, and bounded");

    let got = receiver.got.lock().unwrap().clone();
    assert_eq!(got.len(), 1, "a repeated event is not sent again");
    let (headers, body) = &got[0];
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(text("webhook-id"), event.id);
    let seconds: i64 = text("webhook-timestamp").parse().unwrap();
    assert!((now_ms() / 1000 - seconds).abs() < 60);
    let expected = streamgate_worker::webhooks::signature::signatures(&[secret], &event.id, seconds, body);
    assert_eq!(text("webhook-signature"), expected);
    assert_eq!(receiver.bodies()[0]["type"], "file.uploaded");

    let request = pb::GetDeliveryRequest { delivery_id: delivery.delivery_id };
    let shown = house.handler.get_delivery(asked(request)).await.unwrap().into_inner();
    assert_eq!((shown.body.as_bytes(), shown.attempts.len()), (&body[..], 1));
}

async fn creators_hear_of_their_own_titles_and_of_the_types_they_chose() {
    let jobs = Fixture::open().await;
    let house = House::open(jobs);
    let (_, url) = Receiver::start(&[]).await;
    let (own, _) = house.endpoint(creator(7), &url, &[]).await;
    let (other, _) = house.endpoint(creator(8), &url, &[]).await;
    let (chosen, _) = house.endpoint(creator(7), &url, &["transcoding.failed"]).await;
    let (all, _) = house.endpoint(operator(), &url, &[]).await;
    house.uploaded(creator(7).id.as_str()).await;
    let payload = Payload::JobCompleted(JobCompleted::default());
    house.webhooks.handle(Event { id: EventId::new().to_string(), payload: Some(payload), ..Event::default() }).await.unwrap();
    let types = |deliveries: Vec<pb::Delivery>| deliveries.into_iter().map(|found| found.event_type).collect::<Vec<_>>();
    assert_eq!(types(house.deliveries(&own).await), ["file.uploaded"]);
    assert_eq!(types(house.deliveries(&all).await), ["job.completed", "file.uploaded"]);
    assert!(house.deliveries(&other).await.is_empty() && house.deliveries(&chosen).await.is_empty());
}

async fn a_foreign_endpoint_does_not_exist_for_others() {
    let jobs = Fixture::open().await;
    let house = House::open(jobs);
    let (_, url) = Receiver::start(&[]).await;
    let (endpoint, _) = house.endpoint(creator(7), &url, &[]).await;
    house.uploaded(creator(7).id.as_str()).await;
    let delivery_id = house.deliveries(&endpoint).await[0].delivery_id.clone();
    let id = endpoint.endpoint_id;
    let stranger = || creator(8);
    let codes = [
        house.handler.get_endpoint(asked_by(stranger(), pb::GetEndpointRequest { endpoint_id: id.clone() })).await.err(),
        house.handler.delete_endpoint(asked_by(stranger(), pb::DeleteEndpointRequest { endpoint_id: id.clone() })).await.err(),
        house.handler.rotate_secret(asked_by(stranger(), pb::RotateSecretRequest { endpoint_id: id.clone() })).await.err(),
        house.handler.send_test_event(asked_by(stranger(), pb::SendTestEventRequest { endpoint_id: id.clone() })).await.err(),
        house.handler.get_delivery(asked_by(stranger(), pb::GetDeliveryRequest { delivery_id: delivery_id.clone() })).await.err(),
        house.handler.replay_delivery(asked_by(stranger(), pb::ReplayDeliveryRequest { delivery_id })).await.err(),
    ];
    assert!(codes.iter().all(|status| status.as_ref().map(tonic::Status::code) == Some(Code::NotFound)), "{codes:?}");
    let listed = house.handler.list_endpoints(asked_by(stranger(), pb::ListEndpointsRequest::default())).await.unwrap();
    assert!(listed.into_inner().endpoints.is_empty());
    let all = pb::CreateEndpointRequest { url, all_owners: true, ..Default::default() };
    let refused = house.handler.create_endpoint(asked_by(stranger(), all)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

async fn trouble_is_tried_again_later_and_can_be_replayed_at_once() {
    let jobs = Fixture::open().await;
    let house = House::open(jobs);
    let (receiver, url) = Receiver::start(&[500]).await;
    let (endpoint, _) = house.endpoint(operator(), &url, &[]).await;
    house.uploaded("acc_x").await;
    let waiting = async {
        loop {
            let waiting = house.jobs.all(Some(JobState::Queued)).await;
            if waiting.iter().any(|job| job.message.contains("answered 500")) {
                return waiting;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let job = tokio::time::timeout(BOUND, waiting).await.unwrap().remove(0);
    assert!((4_000..=7_000).contains(&(job.run_ms - now_ms())), "the second attempt comes seconds later");
    let shown =
        house.handler.get_endpoint(asked(pb::GetEndpointRequest { endpoint_id: endpoint.endpoint_id.clone() })).await.unwrap();
    assert!(shown.into_inner().endpoint.unwrap().failing_since.is_some());

    let delivery = house.deliveries(&endpoint).await.remove(0);
    house.handler.replay_delivery(asked(pb::ReplayDeliveryRequest { delivery_id: delivery.delivery_id })).await.unwrap();
    let again = house.jobs.all(None).await.remove(0);
    assert!(again.run_ms <= now_ms() && again.job_id != job.job_id, "it does not wait for the second attempt's time");
    let delivered = house.wait_for(&endpoint, pb::DeliveryState::Delivered).await;
    assert_eq!(delivered.attempts, 2);
    let ids: Vec<_> = receiver.got.lock().unwrap().iter().map(|(headers, _)| headers["webhook-id"].clone()).collect();
    assert_eq!(ids[0], ids[1], "receivers tell repeats by the id");

    let since = Some(streamgate_core::time::to_timestamp(0));
    let span = pb::ReplayDeliveriesRequest {
        endpoint_id: endpoint.endpoint_id.clone(),
        since,
        until: None,
        delivered_too: true,
        ..Default::default()
    };
    let replayed = house.handler.replay_deliveries(asked(span)).await.unwrap().into_inner();
    assert_eq!((replayed.replayed, replayed.more), (1, false));
    house.wait_for(&endpoint, pb::DeliveryState::Delivered).await;
}

async fn a_replay_is_sent_though_the_attempt_before_has_not_been_settled() {
    let house = House::quiet(Fixture::open().await);
    let (receiver, url) = Receiver::start(&[500]).await;
    let (endpoint, _) = house.endpoint(operator(), &url, &[]).await;
    house.uploaded("acc_x").await;
    let delivery_id = house.deliveries(&endpoint).await.remove(0).delivery_id;
    let lane = house.jobs.queue.of_lane(Lane::Deliveries);
    let claim = async || lane.claim("w", 1, 0, LEASE, now_ms()).await.unwrap().pop();
    let before = claim().await.unwrap();
    house.webhooks.deliver(&delivery_id, false).await.unwrap_err();
    house.handler.replay_delivery(asked(pb::ReplayDeliveryRequest { delivery_id: delivery_id.clone() })).await.unwrap();
    let end = End::Retry { message: "trouble".into(), run_ms: now_ms() + 100_000_000 };
    assert!(!house.jobs.settle(&before, end, now_ms()).await, "it was called off");
    let again = claim().await.expect("a job that is due now");
    assert_eq!((again.attempt, again.params), (1, before.params));
    house.webhooks.deliver(&delivery_id, false).await.unwrap();
    assert_eq!(receiver.got.lock().unwrap().len(), 2);
}

async fn a_delivery_ends_with_its_job_however_that_ended() {
    let house = House::quiet(Fixture::open().await);
    let (endpoint, _) = house.endpoint(operator(), "http://127.0.0.1:1/hook", &[]).await;
    house.uploaded("acc_x").await;
    house.webhooks.prune(now_ms()).await.unwrap();
    assert_eq!(house.deliveries(&endpoint).await[0].state(), pb::DeliveryState::Pending, "it is on its way");
    let job = house.jobs.all(None).await.remove(0);
    house.jobs.queue.cancel(&support::id_of(&job), now_ms()).await.unwrap();
    house.webhooks.prune(now_ms()).await.unwrap();
    let failed = pb::DeliveryState::Failed.into();
    let request = pb::ListDeliveriesRequest { endpoint_id: endpoint.endpoint_id, state: failed, ..Default::default() };
    let ended = house.handler.list_deliveries(asked(request)).await.unwrap().into_inner().deliveries.remove(0);
    assert_eq!((ended.state(), ended.end_time.is_some()), (pb::DeliveryState::Failed, true));
}

async fn a_replay_of_many_goes_on_where_it_stopped_and_ends() {
    let house = House::quiet(Fixture::open().await);
    let (endpoint, _) = house.endpoint(operator(), "http://127.0.0.1:1/hook", &[]).await;
    let mut tx = house.jobs.db.begin().await.unwrap();
    for number in 0..1_005_i64 {
        let message = EventId::new();
        sqlx::query("INSERT INTO webhook_messages (message_id, event_type, body, create_ms) VALUES ($1, 't', $2, $3)")
            .bind(message.as_str())
            .bind(b"{}".to_vec())
            .bind(now_ms())
            .execute(&mut *tx)
            .await
            .unwrap();
        // Hundreds of one moment: the time alone is no place to go on from.
        sqlx::query(
            "INSERT INTO webhook_deliveries (delivery_id, endpoint_id, message_id, event_type, state, create_ms) VALUES ($1, $2, $3, 't', 2, $4)",
        )
        .bind(DeliveryId::new().as_str())
        .bind(&endpoint.endpoint_id)
        .bind(message.as_str())
        .bind(1_000 + number / 600)
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    let replay = async |page_token: &str| {
        let since = Some(streamgate_core::time::to_timestamp(0));
        let endpoint_id = endpoint.endpoint_id.clone();
        let span =
            pb::ReplayDeliveriesRequest { endpoint_id, since, until: None, delivered_too: true, page_token: page_token.into() };
        house.handler.replay_deliveries(asked(span)).await.unwrap().into_inner()
    };
    let first = replay("").await;
    assert_eq!((first.replayed, first.more), (1_000, true));
    // They are delivered again before the next page is asked for.
    let mut tx = house.jobs.db.begin().await.unwrap();
    sqlx::query("UPDATE webhook_deliveries SET state = 2").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let second = replay(&first.next_page_token).await;
    assert_eq!((second.replayed, second.more, second.next_page_token.as_str()), (5, false, ""));
}

/// Endpoints of one account at a receiver that takes connections and never answers.
async fn many_that_never_answer(house: &House) -> TcpListener {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = format!("http://{}/hook", silent.local_addr().unwrap());
    for _ in 0..20 {
        house.endpoint(creator(7), &slow, &[]).await;
    }
    silent
}

async fn a_backlog_for_slow_receivers_is_left_alone_while_others_are_served() {
    let house = House::open(Fixture::open().await);
    let _silent = many_that_never_answer(&house).await;
    let (_, url) = Receiver::start(&[]).await;
    let (other, _) = house.endpoint(creator(8), &url, &[]).await;
    for _ in 0..25 {
        house.uploaded(creator(7).id.as_str()).await;
    }
    for number in 1..=5 {
        house.uploaded(creator(8).id.as_str()).await;
        let waited = tokio::time::timeout(Duration::from_secs(5), house.wait_for(&other, pb::DeliveryState::Delivered)).await;
        assert_eq!(waited.expect("an attempt may take 15 s; this one must not wait for any").attempts, 1);
        assert_eq!(house.deliveries(&other).await.len(), number);
    }
    let labels = AttemptLabels { r#type: "deliver_webhook".into(), outcome: "put_off" };
    let put_off = house.metrics.attempts.get_or_create(&labels).get();
    assert!(put_off < 100, "of five hundred that wait, {put_off} were taken in vain");
}

async fn a_receiver_that_wants_no_more_is_disabled_with_the_reason() {
    let jobs = Fixture::open().await;
    let house = House::open(jobs);
    let (_, url) = Receiver::start(&[410]).await;
    let (endpoint, _) = house.endpoint(operator(), &url, &[]).await;
    house.uploaded("acc_x").await;
    house.wait_for(&endpoint, pb::DeliveryState::Failed).await;
    let get = || asked(pb::GetEndpointRequest { endpoint_id: endpoint.endpoint_id.clone() });
    let disabled = house.handler.get_endpoint(get()).await.unwrap().into_inner().endpoint.unwrap();
    assert_eq!((disabled.enabled, disabled.disabled_reason.as_str()), (false, "the receiver answered 410 Gone"));
    house.uploaded("acc_x").await;
    assert_eq!(house.deliveries(&endpoint).await.len(), 1, "nothing more is made for it");
    let test = pb::SendTestEventRequest { endpoint_id: endpoint.endpoint_id.clone() };
    assert_eq!(house.handler.send_test_event(asked(test.clone())).await.unwrap_err().code(), Code::FailedPrecondition);

    let enable =
        pb::UpdateEndpointRequest { endpoint_id: endpoint.endpoint_id.clone(), enabled: Some(true), ..Default::default() };
    let enabled = house.handler.update_endpoint(asked(enable)).await.unwrap().into_inner().endpoint.unwrap();
    assert!(enabled.enabled && enabled.disabled_reason.is_empty() && enabled.failing_since.is_none());
    house.handler.send_test_event(asked(test)).await.unwrap();
    let delivered = house.wait_for(&endpoint, pb::DeliveryState::Delivered).await;
    assert_eq!(delivered.event_type, "webhook.test");
}

async fn a_delivery_given_up_after_days_of_failure_disables_its_endpoint() {
    let jobs = Fixture::open().await;
    let house = House::open(jobs);
    let (endpoint, _) = house.endpoint(operator(), "http://127.0.0.1:1/hook", &[]).await;
    house.uploaded("acc_x").await;
    let delivery = house.deliveries(&endpoint).await.remove(0);
    house.webhooks.deliver(&delivery.delivery_id, true).await.unwrap_err();
    let get = || asked(pb::GetEndpointRequest { endpoint_id: endpoint.endpoint_id.clone() });
    let first = house.handler.get_endpoint(get()).await.unwrap().into_inner().endpoint.unwrap();
    assert!(first.enabled, "one delivery that fails quickly says little");
    let mut tx = house.jobs.db.begin().await.unwrap();
    sqlx::query("UPDATE webhook_endpoints SET failing_ms = $1")
        .bind(now_ms() - 3 * 24 * 60 * 60 * 1000)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    house.webhooks.deliver(&delivery.delivery_id, true).await.unwrap_err();
    let disabled = house.handler.get_endpoint(get()).await.unwrap().into_inner().endpoint.unwrap();
    assert!(!disabled.enabled && disabled.disabled_reason.contains("could not be reached"), "{}", disabled.disabled_reason);
}

async fn slow_receivers_of_one_account_hold_up_nobody_else() {
    let jobs = Fixture::open().await;
    let house = House::open(jobs);
    let _silent = many_that_never_answer(&house).await;
    let (_, url) = Receiver::start(&[]).await;
    let (other, _) = house.endpoint(creator(8), &url, &[]).await;
    house.uploaded(creator(7).id.as_str()).await;
    house.uploaded(creator(8).id.as_str()).await;
    let waited = tokio::time::timeout(Duration::from_secs(10), house.wait_for(&other, pb::DeliveryState::Delivered)).await;
    assert_eq!(waited.expect("an attempt may take 15 s; this one must not wait for any").attempts, 1);
    let waiting = house.jobs.all(Some(JobState::Queued)).await;
    assert!(!waiting.is_empty() && waiting.iter().all(|job| job.attempts == 0), "who is put off loses no attempt");
}

async fn a_rotated_secret_signs_beside_the_one_before() {
    let jobs = Fixture::open().await;
    let house = House::open(jobs);
    let (receiver, url) = Receiver::start(&[]).await;
    let (endpoint, _) = house.endpoint(operator(), &url, &[]).await;
    let rotate = pb::RotateSecretRequest { endpoint_id: endpoint.endpoint_id.clone() };
    let rotated = house.handler.rotate_secret(asked(rotate)).await.unwrap().into_inner();
    assert!(rotated.secret.starts_with("whsec_") && rotated.old_secret_expire_time.is_some());
    house.uploaded("acc_x").await;
    house.wait_for(&endpoint, pb::DeliveryState::Delivered).await;
    let got = receiver.got.lock().unwrap().clone();
    assert_eq!(got[0].0["webhook-signature"].to_str().unwrap().split(' ').count(), 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_inside_is_not_dialled() {
    let (receiver, url) = Receiver::start(&[302]).await;
    let parcel = |url: &str| Parcel {
        url: url.into(),
        message_id: "evt_1".into(),
        body: "{}".into(),
        secrets: vec![Secret::generate().unwrap()],
    };
    let open = Sender::new(Guard::Open, Arc::new(SystemNames)).unwrap();
    let redirected = open.send(&parcel(&url)).await;
    assert_eq!((redirected.status, redirected.is_delivered()), (Some(302), false));

    let guarded = Sender::new(Guard::Public, Arc::new(Inside)).unwrap();
    let port = url.split(':').nth(2).unwrap().split('/').next().unwrap().to_owned();
    for inside in [url.clone(), format!("https://127.0.0.1:{port}/hook"), format!("https://rebound.example:{port}/hook")] {
        let refused = guarded.send(&parcel(&inside)).await;
        assert_eq!(refused.status, None, "{inside}");
        assert!(refused.error.starts_with("the URL "), "{inside}: {}", refused.error);
    }
    assert_eq!(receiver.got.lock().unwrap().len(), 1, "nothing of that was dialled");
}

/// Every name leads to this machine.
struct Inside;

#[async_trait::async_trait]
impl streamgate_worker::webhooks::guard::Names for Inside {
    async fn addresses(&self, _: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
        Ok(vec![std::net::Ipv4Addr::LOCALHOST.into()])
    }
}

streamgate_testkit::on_both_engines! {
    support:
    slow_receivers_of_one_account_hold_up_nobody_else,
    a_backlog_for_slow_receivers_is_left_alone_while_others_are_served,
    an_event_reaches_its_receiver_signed_and_once,
    creators_hear_of_their_own_titles_and_of_the_types_they_chose,
    a_foreign_endpoint_does_not_exist_for_others,
    trouble_is_tried_again_later_and_can_be_replayed_at_once,
    a_replay_is_sent_though_the_attempt_before_has_not_been_settled,
    a_delivery_ends_with_its_job_however_that_ended,
    a_replay_of_many_goes_on_where_it_stopped_and_ends,
    a_receiver_that_wants_no_more_is_disabled_with_the_reason,
    a_delivery_given_up_after_days_of_failure_disables_its_endpoint,
    a_rotated_secret_signs_beside_the_one_before,
}
