//! Edits: masks, etags, attributes, and requests that come again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::HashMap;

use prost_types::FieldMask;
use streamgate_core::{Caller, Failure, Role};
use streamgate_proto::streamgate::{
    events::v1::event::Payload,
    metadata::v1::{self as pb, metadata_service_server::MetadataService},
};
use support::{Fixture, as_account, call, reason};
use tonic::Code;

fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

async fn whole(titles: &Fixture, owner: &Caller) -> pb::Content {
    let request = pb::CreateContentRequest {
        title: "Title".into(),
        description: "Text".into(),
        tags: vec!["tag".into()],
        attributes: attributes(&[("season", "2"), ("studio.id", "x-1")]),
        ..Default::default()
    };
    titles.create_with(owner, request).await.unwrap()
}

async fn without_a_mask_only_what_is_given_changes(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let before = whole(&titles, &owner).await;
    assert_eq!(before.attributes, attributes(&[("season", "2"), ("studio.id", "x-1")]));
    let edit = pb::UpdateContentRequest { content_id: before.content_id.clone(), tags: vec!["new".into()], ..Default::default() };
    let after = titles.update(&owner, edit).await.unwrap();
    let changed =
        pb::Content { tags: vec!["new".into()], revision: 2, etag: after.etag.clone(), update_time: after.update_time, ..before };
    assert_eq!(after, changed);
}

async fn a_mask_names_what_changes_and_empties_what_is_not_given(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let before = whole(&titles, &owner).await;
    let edit = |paths: &[&str]| pb::UpdateContentRequest {
        content_id: before.content_id.clone(),
        title: Some("Other".into()),
        update_mask: mask(paths),
        ..Default::default()
    };
    let emptied = titles.update(&owner, edit(&["description", "tags", "attributes"])).await.unwrap();
    assert_eq!((emptied.title.as_str(), emptied.description.as_str()), ("Title", ""), "the title was not named");
    assert!(emptied.tags.is_empty() && emptied.attributes.is_empty());
    assert_eq!(titles.update(&owner, edit(&["*"])).await.unwrap().title, "Other");
    let untitled = pb::UpdateContentRequest { title: None, ..edit(&["title"]) };
    let refused = titles.update(&owner, untitled).await.unwrap_err();
    assert_eq!(Failure::from(&refused).fields[0].field, "title", "a title can't be empty");
    let unknown = titles.update(&owner, edit(&["owner", "status"])).await.unwrap_err();
    assert_eq!(Failure::from(&unknown).fields.len(), 2);
}

async fn a_change_with_an_old_etag_is_refused(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = whole(&titles, &owner).await;
    let id = content.content_id.as_str();
    let edit = |title: &str, etag: &str| pb::UpdateContentRequest {
        content_id: id.into(),
        title: Some(title.into()),
        etag: etag.into(),
        ..Default::default()
    };
    let after = titles.update(&owner, edit("After", &content.etag)).await.unwrap();
    assert_ne!(after.etag, content.etag);
    let late = titles.update(&owner, edit("Late", &content.etag)).await.unwrap_err();
    assert_eq!((late.code(), reason(&late).as_str()), (Code::FailedPrecondition, "etag_mismatch"));
    let gate = pb::SetGateRequest { content_id: id.into(), gate: None, etag: content.etag.clone() };
    assert_eq!(reason(&titles.handler.set_gate(call(&owner, gate)).await.unwrap_err()), "etag_mismatch");
    let delete = |etag: &str| call(&owner, pb::DeleteContentRequest { content_id: id.into(), etag: etag.into() });
    assert_eq!(reason(&titles.handler.delete_content(delete(&content.etag)).await.unwrap_err()), "etag_mismatch");
    assert_eq!(titles.update(&owner, edit("Any", "*")).await.unwrap().title, "Any");
    let current = titles.get(&owner, id).await.unwrap().etag;
    titles.handler.delete_content(delete(&current)).await.unwrap();
    titles.handler.delete_content(delete(&current)).await.expect("repeating a delete is success");
}

async fn progress_leaves_the_etag_alone(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = whole(&titles, &owner).await;
    let events = support::life_of(&content.content_id);
    for event in &events[..2] {
        titles.deliver(event.clone()).await.unwrap();
    }
    let before = titles.get(&owner, &content.content_id).await.unwrap();
    titles.deliver(events[2].clone()).await.unwrap();
    let after = titles.get(&owner, &content.content_id).await.unwrap();
    assert_eq!((after.progress, after.etag, after.update_time), (0.3, before.etag, before.update_time));
}

async fn attributes_are_bounded_and_named_when_they_are_wrong(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let bad = [
        attributes(&[("Upper", "x")]),
        attributes(&[("", "x")]),
        attributes(&[("long", &"x".repeat(501))]),
        attributes(&[("line", "a\nb")]),
        (0..33).map(|number| (format!("n{number}"), String::new())).collect(),
    ];
    for attributes in bad {
        let request = pb::CreateContentRequest { title: "A".into(), attributes, ..Default::default() };
        let status = titles.create_with(&owner, request).await.unwrap_err();
        assert!(Failure::from(&status).fields[0].field.starts_with("attributes"), "{status}");
    }
}

async fn a_repeated_edit_gives_the_first_answer_and_another_body_is_refused(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = whole(&titles, &owner).await;
    let edit = |title: &str, request_id: &str| pb::UpdateContentRequest {
        content_id: content.content_id.clone(),
        title: Some(title.into()),
        attributes: attributes(&[("a", "1"), ("b", "2"), ("c", "3")]),
        expected_revision: 1,
        request_id: request_id.into(),
        ..Default::default()
    };
    let first = titles.update(&owner, edit("First", "r1")).await.unwrap();
    let later = pb::UpdateContentRequest { expected_revision: 2, ..edit("Second", "r2") };
    titles.update(&owner, later).await.unwrap();
    assert_eq!(titles.update(&owner, edit("First", "r1")).await.unwrap(), first, "also when the title has moved on");
    let other = titles.update(&owner, edit("Other", "r1")).await.unwrap_err();
    assert_eq!(reason(&other), "request_id_reused");
    assert_eq!(titles.get(&owner, &content.content_id).await.unwrap().title, "Second");

    let add = |request_id: &str| {
        call(
            &owner,
            pb::CreatePlaybackIdRequest { content_id: content.content_id.clone(), gate: None, request_id: request_id.into() },
        )
    };
    let one = titles.handler.create_playback_id(add("r1")).await.unwrap().into_inner();
    assert_eq!(titles.handler.create_playback_id(add("r1")).await.unwrap().into_inner(), one);
    assert_ne!(titles.handler.create_playback_id(add("")).await.unwrap().into_inner(), one);
}

async fn edits_are_told_with_what_they_changed(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = whole(&titles, &owner).await;
    let edit = pb::UpdateContentRequest {
        content_id: content.content_id.clone(),
        title: Some("Title".into()),
        description: Some("New".into()),
        ..Default::default()
    };
    titles.update(&owner, edit.clone()).await.unwrap();
    titles.update(&owner, edit).await.unwrap();
    let told: Vec<Vec<String>> = titles
        .outbox()
        .await
        .into_iter()
        .filter_map(|event| match event.payload {
            Some(Payload::MetadataUpdated(updated)) => Some(updated.changed_fields),
            _ => None,
        })
        .collect();
    assert_eq!(told, [["description"]], "an edit that changes nothing is no news");
}

support::on_both_engines! {
    without_a_mask_only_what_is_given_changes,
    a_mask_names_what_changes_and_empties_what_is_not_given,
    a_change_with_an_old_etag_is_refused,
    progress_leaves_the_etag_alone,
    attributes_are_bounded_and_named_when_they_are_wrong,
    a_repeated_edit_gives_the_first_answer_and_another_body_is_refused,
    edits_are_told_with_what_they_changed,
}
