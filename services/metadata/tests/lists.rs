//! Lists and search: order, pages, what a user may type, and how the database answers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;

use streamgate_core::Role;
use streamgate_metadata::{Config, engine::QUERIES};
use streamgate_proto::streamgate::metadata::v1::{self as pb, metadata_service_server::MetadataService};
use support::{Fixture, as_account, as_service, call};
use tonic::Code;

#[tokio::test]
async fn pages_of_250_titles_lose_none_and_repeat_none() {
    let titles = Fixture::open().await;
    let owner = as_account(Role::Creator);
    for number in 0..250 {
        titles.create(&owner, &format!("Title {number}")).await;
        if number % 50 == 0 {
            titles.create(&as_account(Role::Creator), "Somebody else's").await;
        }
    }
    let listed = titles.list_all(&owner, 7, "").await;
    let newest_first: Vec<String> = (0..250).rev().map(|number| format!("Title {number}")).collect();
    assert_eq!(listed, newest_first);
    assert_eq!(titles.list_all(&owner, 100, "waiting").await.len(), 250);
    assert_eq!(titles.list_all(&owner, 100, "ready").await.len(), 0);
    assert_eq!(titles.list_all(&as_account(Role::Operator), 100, "").await.len(), 255);
    assert_eq!(titles.list_all(&as_service(), 100, "waiting").await.len(), 255);

    let (mut found, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = pb::SearchContentsRequest { query: "title".into(), page_size: 30, page_token };
        let page = titles.handler.search_contents(call(&owner, request)).await.unwrap().into_inner();
        for content in page.contents {
            assert!(found.insert(content.content_id), "a title came twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found.len(), 250);
}

#[tokio::test]
async fn a_title_made_between_two_pages_does_not_disturb_them() {
    let titles = Fixture::open().await;
    let owner = as_account(Role::Creator);
    for number in 0..4 {
        titles.create(&owner, &format!("{number}")).await;
    }
    let first = pb::ListContentsRequest { page_size: 2, ..Default::default() };
    let page = titles.handler.list_contents(call(&owner, first)).await.unwrap().into_inner();
    titles.create(&owner, "new").await;
    let second = pb::ListContentsRequest { page_size: 2, page_token: page.next_page_token, ..Default::default() };
    let page = titles.handler.list_contents(call(&owner, second)).await.unwrap().into_inner();
    let names: Vec<&str> = page.contents.iter().map(|content| content.title.as_str()).collect();
    assert_eq!((names.as_slice(), page.next_page_token.as_str()), (["1", "0"].as_slice(), ""));
}

#[tokio::test]
async fn a_bad_page_or_status_is_refused() {
    let titles = Fixture::open().await;
    let owner = as_account(Role::Creator);
    let bad = [
        pb::ListContentsRequest { page_size: 101, ..Default::default() },
        pb::ListContentsRequest { page_token: "zz".into(), ..Default::default() },
        pb::ListContentsRequest { status: "done".into(), ..Default::default() },
    ];
    for request in bad {
        assert_eq!(titles.handler.list_contents(call(&owner, request)).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn search_finds_prefixes_without_accents_in_title_text_and_tags_best_first() {
    let titles = Fixture::open().await;
    let owner = as_account(Role::Creator);
    let make = |title: &str, description: &str, tag: &str| pb::CreateContentRequest {
        title: title.into(),
        description: description.into(),
        tags: vec![tag.into()],
        ..Default::default()
    };
    for request in [
        make("Walk", "a long walk with my café friends", "outdoor"),
        make("Café tour", "coffee", "city"),
        make("Sea", "", "cafés"),
    ] {
        titles.create_with(&owner, request).await.unwrap();
    }
    assert_eq!(titles.search(&owner, "cafe").await.unwrap(), ["Café tour", "Sea", "Walk"]);
    assert_eq!(titles.search(&owner, "CAF tou").await.unwrap(), ["Café tour"]);
    assert!(titles.search(&owner, "cafe submarine").await.unwrap().is_empty(), "every word must be found");
    assert!(titles.search(&as_account(Role::Creator), "cafe").await.unwrap().is_empty(), "only the caller's titles");
    assert_eq!(titles.search(&as_account(Role::Operator), "outdoor").await.unwrap(), ["Walk"]);
}

#[tokio::test]
async fn an_edit_is_found_and_what_it_replaced_is_not() {
    let titles = Fixture::open().await;
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Apple").await;
    let edit = pb::UpdateContentRequest { content_id: content.content_id, title: Some("Pear".into()), ..Default::default() };
    titles.update(&owner, edit).await.unwrap();
    assert!(titles.search(&owner, "apple").await.unwrap().is_empty());
    assert_eq!(titles.search(&owner, "pear").await.unwrap(), ["Pear"]);
}

#[tokio::test]
async fn what_a_user_types_is_words_and_never_syntax() {
    let titles = Fixture::open().await;
    let owner = as_account(Role::Creator);
    titles.create(&owner, "Harmless").await;
    let stranger = as_account(Role::Creator);
    let secret = titles.create(&stranger, "Secret").await;
    let hostile = [
        "\"",
        "\"\"",
        "*",
        "^",
        "a\"b",
        "harmless\" OR \"secret",
        ") OR (secret",
        "owner:acc",
        "title : secret",
        "NEAR(a b)",
        "secret NOT x",
        "- secret",
        "{title}:secret",
        "\0",
        "a\0b",
        "' OR 1=1 --",
        "%",
        "secret*",
        "💥",
        "--",
        "\u{301}",
        "\u{feff}",
        "AND",
        "OR NOT",
    ];
    for query in hostile.into_iter().map(str::to_owned).chain([secret.owner.clone(), "a ".repeat(99)]) {
        match titles.search(&owner, &query).await {
            Ok(found) => assert!(!found.contains(&"Secret".to_owned()), "{query:?}"),
            Err(status) => panic!("{query:?}: {status}"),
        }
    }
    for query in ["", "  ", &"x".repeat(201)] {
        assert_eq!(titles.search(&owner, query).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_search_ends_at_its_bound() {
    let titles = Fixture::with(Config { max_search_results: 5, ..Config::default() }).await;
    let owner = as_account(Role::Creator);
    for _ in 0..8 {
        titles.create(&owner, "same").await;
    }
    let ask = |page_token| pb::SearchContentsRequest { query: "same".into(), page_size: 4, page_token };
    let first = titles.handler.search_contents(call(&owner, ask(String::new()))).await.unwrap().into_inner();
    let second = titles.handler.search_contents(call(&owner, ask(first.next_page_token))).await.unwrap().into_inner();
    assert_eq!((first.contents.len(), second.contents.len(), second.next_page_token.as_str()), (4, 1, ""));
}

#[tokio::test]
async fn no_list_and_no_search_reads_a_whole_table() {
    let titles = Fixture::open().await;
    for query in QUERIES {
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"))).fetch_all(titles.db.pool()).await.unwrap();
        for (.., step) in plan {
            let is_index_scan =
                step.contains("VIRTUAL TABLE INDEX") || step.contains("USING INDEX") || step.contains("USING COVERING INDEX");
            assert!(!step.starts_with("SCAN") || is_index_scan, "{query}\n{step}");
            assert!(!step.contains("TEMP B-TREE") || query.contains("bm25") || step.contains("string_agg"), "{query}\n{step}");
        }
    }
}
