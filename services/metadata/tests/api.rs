//! The service over its handlers, with a database of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use streamgate_core::Role;
use streamgate_proto::streamgate::{
    events::v1::event::Payload,
    gate::v1::{Everyone, Rule, rule::Kind},
    metadata::v1::{self as pb, metadata_service_server::MetadataService},
};
use support::{Fixture, anonymous, as_account, as_service, reason};
use tonic::Code;

const CONTRACT: &str = "0x5fbdb2315678afecb367f032d93f642f64180aa3";

fn nft(contract: &str) -> Rule {
    support::nft("eip155:31337", contract)
}

async fn a_new_title_has_one_public_id_and_is_waiting(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "A cat").await;
    assert_eq!((content.title.as_str(), content.status.as_str(), content.revision), ("A cat", "waiting", 1));
    assert_eq!(content.owner, owner.account().unwrap().id.as_str());
    assert_eq!(content.playback_ids.len(), 1);
    assert_eq!(titles.get(&owner, &content.content_id).await.unwrap(), content);
}

async fn a_foreign_title_is_an_unknown_one_for_every_call(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Private").await;
    for stranger in [as_account(Role::Creator), as_account(Role::Viewer), anonymous()] {
        for (call, status) in titles.try_every_call(&stranger, &content).await {
            assert_eq!(status.code(), Code::NotFound, "{call}");
            assert_eq!(reason(&status), "content_unknown", "{call}");
        }
    }
    assert_eq!(titles.get(&owner, &content.content_id).await.unwrap(), content, "a stranger changed it");
    for trusted in [as_account(Role::Operator), as_service()] {
        assert!(titles.get(&trusted, &content.content_id).await.is_ok());
    }
}

async fn the_same_request_makes_one_title_and_another_body_is_refused(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let request = pb::CreateContentRequest {
        title: "A".into(),
        request_id: "upl_1".into(),
        status: "uploading".into(),
        ..Default::default()
    };
    let first = titles.create_with(&owner, request.clone()).await.unwrap();
    assert_eq!(titles.create_with(&owner, request.clone()).await.unwrap(), first);
    let other = titles.create_with(&owner, pb::CreateContentRequest { title: "B".into(), ..request.clone() }).await.unwrap_err();
    assert_eq!((other.code(), reason(&other).as_str()), (Code::AlreadyExists, "request_id_reused"));
    let foreign = titles.create_with(&as_account(Role::Creator), request).await.unwrap();
    assert_ne!(foreign.content_id, first.content_id, "request ids of two accounts are apart");
}

async fn bad_fields_are_all_named_at_once(titles: Fixture) {
    let request = pb::CreateContentRequest {
        title: " ".into(),
        description: "x".repeat(5_001),
        tags: vec!["ok".into(), String::new()],
        gate: Some(nft("0x12")),
        status: "ready".into(),
        ..Default::default()
    };
    let status = titles.create_with(&as_account(Role::Creator), request).await.unwrap_err();
    let fields: Vec<String> = streamgate_core::Failure::from(&status).fields.into_iter().map(|field| field.field).collect();
    assert_eq!(fields, ["title", "description", "tags[1]", "gate.all.rules[0].erc721.contract", "status"]);
}

async fn an_edit_of_an_old_revision_is_refused(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Before").await;
    let edit = |title: &str, expected_revision| pb::UpdateContentRequest {
        content_id: content.content_id.clone(),
        title: Some(title.into()),
        expected_revision,
        ..Default::default()
    };
    let after = titles.update(&owner, edit("After", 1)).await.unwrap();
    assert_eq!((after.title.as_str(), after.revision), ("After", 2));
    let late = titles.update(&owner, edit("Late", 1)).await.unwrap_err();
    assert_eq!((late.code(), reason(&late).as_str()), (Code::Aborted, "revision_conflict"));
    assert_eq!(titles.update(&owner, edit("After", 2)).await.unwrap().revision, 2, "no change is no revision");
}

async fn a_deleted_title_is_gone_everywhere_and_deleting_again_is_success(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Ephemeral cat").await;
    titles.delete(&owner, &content.content_id).await.unwrap();
    titles.delete(&owner, &content.content_id).await.unwrap();
    assert_eq!(titles.delete(&as_account(Role::Creator), &content.content_id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(titles.get(&owner, &content.content_id).await.unwrap_err().code(), Code::NotFound);
    assert!(titles.search(&owner, "ephemeral").await.unwrap().is_empty());
    assert!(titles.list_all(&owner, 10, "").await.is_empty());
    assert_eq!(titles.info(&content.playback_ids[0]).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(titles.resolve(&content.playback_ids[0]).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(titles.outbox_types().await, ["metadata.created", "metadata.deleted"], "told once");
}

async fn a_gate_is_set_told_and_taken_away(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Gated").await;
    let public = &content.playback_ids[0];
    assert!(!titles.info(public).await.unwrap().open, "no gate is not an open one");

    let set = titles.set_gate(&owner, &content.content_id, Some(nft(CONTRACT))).await.unwrap();
    assert_eq!(set.gate_hash.len(), 64);
    assert_eq!(titles.set_gate(&owner, &content.content_id, Some(nft(CONTRACT))).await.unwrap(), set);
    let resolved = titles.resolve(public).await.unwrap();
    assert_eq!((resolved.gate, resolved.gate_hash), (set.gate, set.gate_hash));
    assert_eq!(titles.info(public).await.unwrap().requirements.len(), 1);

    let removed = titles.set_gate(&owner, &content.content_id, Some(Rule { kind: None })).await.unwrap();
    assert_eq!((removed.gate, removed.gate_hash.as_str()), (None, ""));
    let told = ["metadata.created", "gate.changed", "metadata.updated", "gate.changed", "metadata.updated"];
    assert_eq!(titles.outbox_types().await, told, "setting the same gate is no news");
    let bad = titles.set_gate(&owner, &content.content_id, Some(nft("nonsense"))).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
}

async fn a_public_id_may_have_a_gate_of_its_own_until_it_is_deleted(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Two doors").await;
    titles.set_gate(&owner, &content.content_id, Some(nft(CONTRACT))).await.unwrap();
    let open = titles
        .add_playback_id(&owner, &content.content_id, Some(Rule { kind: Some(Kind::Everyone(Everyone {})) }))
        .await
        .unwrap();
    assert!(titles.info(&open).await.unwrap().open);
    assert!(!titles.info(&content.playback_ids[0]).await.unwrap().open);
    assert_eq!(
        titles.get(&owner, &content.content_id).await.unwrap().playback_ids,
        [content.playback_ids[0].clone(), open.clone()]
    );
    titles.delete_playback_id(&owner, &content.content_id, &open).await.unwrap();
    titles.delete_playback_id(&owner, &content.content_id, &open).await.unwrap();
    assert_eq!(titles.info(&open).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(titles.info("pbk_guess").await.unwrap_err().code(), Code::NotFound);
}

async fn a_title_has_a_bounded_number_of_public_ids(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Many doors").await;
    for _ in 1..16 {
        titles.add_playback_id(&owner, &content.content_id, None).await.unwrap();
    }
    let refused = titles.add_playback_id(&owner, &content.content_id, None).await.unwrap_err();
    assert_eq!(reason(&refused), "too_many_playback_ids");
}

async fn events_lead_a_title_to_ready_and_repeats_change_nothing(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "On its way").await;
    let events = support::life_of(&content.content_id);
    let mut seen = Vec::new();
    for event in &events {
        titles.deliver(event.clone()).await.unwrap();
        titles.deliver(event.clone()).await.unwrap();
        let now = titles.get(&owner, &content.content_id).await.unwrap();
        seen.push((now.status, now.playable));
    }
    let steps: Vec<(&str, bool)> = seen.iter().map(|(status, playable)| (status.as_str(), *playable)).collect();
    let processing = ("processing", false);
    assert_eq!(steps, [processing, processing, processing, ("processing", true), ("ready", true)]);
    let done = titles.get(&owner, &content.content_id).await.unwrap();
    assert_eq!((done.progress, done.duration_ms, done.width, done.height), (1.0, 51_000, 1280, 720));
    assert_eq!(done.revision, 4, "uploaded, playable and ready are changes; progress is not");
}

async fn a_failed_job_says_why_and_an_abandoned_upload_too(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let broken = titles.create(&owner, "Broken").await;
    titles.deliver(support::failed(&broken.content_id, "no_media_streams")).await.unwrap();
    let error = titles.get(&owner, &broken.content_id).await.unwrap().error.unwrap();
    assert_eq!(error.reason, "no_media_streams");
    let gone = titles.create(&owner, "Gone").await;
    titles.deliver(support::abandoned(&gone.content_id, "cancelled")).await.unwrap();
    let now = titles.get(&owner, &gone.content_id).await.unwrap();
    assert_eq!((now.status.as_str(), now.error.unwrap().reason.as_str()), ("errored", "upload_cancelled"));
}

async fn events_of_unknown_titles_are_taken_and_broken_ones_refused(titles: Fixture) {
    let unknown = streamgate_core::ids::ContentId::new();
    titles.deliver(support::abandoned(unknown.as_str(), "expired")).await.unwrap();
    assert!(titles.deliver(support::abandoned("nonsense", "expired")).await.is_err());
    let payload = support::failed(unknown.as_str(), "x").payload;
    assert!(matches!(payload, Some(Payload::TranscodingFailed(_))));
    assert!(
        titles
            .deliver(streamgate_proto::streamgate::events::v1::Event { id: "1".into(), payload, ..Default::default() })
            .await
            .is_err()
    );
}

async fn an_account_is_needed_to_own_a_title(titles: Fixture) {
    let request = pb::CreateContentRequest { title: "Nobody's".into(), ..Default::default() };
    assert_eq!(titles.create_with(&as_service(), request).await.unwrap_err().code(), Code::Unauthenticated);
    let unasked = tonic::Request::new(pb::GetContentRequest::default());
    assert_eq!(titles.handler.get_content(unasked).await.unwrap_err().code(), Code::Internal, "not through the runtime");
}

support::on_both_engines! {
    a_new_title_has_one_public_id_and_is_waiting,
    a_foreign_title_is_an_unknown_one_for_every_call,
    the_same_request_makes_one_title_and_another_body_is_refused,
    bad_fields_are_all_named_at_once,
    an_edit_of_an_old_revision_is_refused,
    a_deleted_title_is_gone_everywhere_and_deleting_again_is_success,
    a_gate_is_set_told_and_taken_away,
    a_public_id_may_have_a_gate_of_its_own_until_it_is_deleted,
    a_title_has_a_bounded_number_of_public_ids,
    events_lead_a_title_to_ready_and_repeats_change_nothing,
    a_failed_job_says_why_and_an_abandoned_upload_too,
    events_of_unknown_titles_are_taken_and_broken_ones_refused,
    an_account_is_needed_to_own_a_title,
}
