//! Search: what is found, what may be typed, and what is never shown.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;

use streamgate_core::Role;
use streamgate_metadata::Config;
use streamgate_proto::streamgate::metadata::v1::{self as pb, metadata_service_server::MetadataService};
use support::{Fixture, as_account, call, nft};
use tonic::Code;

async fn search_finds_prefixes_without_accents_in_title_text_and_tags_best_first(titles: Fixture) {
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

async fn an_edit_is_found_and_what_it_replaced_is_not(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Apple").await;
    let edit = pb::UpdateContentRequest { content_id: content.content_id, title: Some("Pear".into()), ..Default::default() };
    titles.update(&owner, edit).await.unwrap();
    assert!(titles.search(&owner, "apple").await.unwrap().is_empty());
    assert_eq!(titles.search(&owner, "pear").await.unwrap(), ["Pear"]);
}

async fn what_a_user_types_is_words_and_never_syntax(titles: Fixture) {
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
    let ask = |page_token| pb::SearchContentsRequest { query: "same".into(), page_size: 4, page_token, ..Default::default() };
    let first = titles.handler.search_contents(call(&owner, ask(String::new()))).await.unwrap().into_inner();
    let second = titles.handler.search_contents(call(&owner, ask(first.next_page_token))).await.unwrap().into_inner();
    assert_eq!((first.contents.len(), second.contents.len(), second.next_page_token.as_str()), (4, 1, ""));
}

async fn a_mistyped_word_finds_what_looks_alike_when_nothing_matches_as_typed(titles: Fixture) {
    let owner = as_account(Role::Creator);
    for title in ["Coffee in the mountains", "Toffee", "Mountain lake", "A coffin"] {
        titles.create(&owner, title).await;
    }
    titles.create(&as_account(Role::Creator), "Coffee of somebody else").await;
    let ask = |query: &str| pb::SearchContentsRequest { query: query.into(), ..Default::default() };
    for typo in ["cofee", "coffe e", "cofffee", "ocffee", "coffee montains"] {
        let page = titles.handler.search_contents(call(&owner, ask(typo))).await.unwrap().into_inner();
        let found: Vec<&str> = page.contents.iter().map(|content| content.title.as_str()).collect();
        if typo == "coffe e" {
            assert!(found.is_empty(), "a word of one letter is not corrected: {found:?}");
            continue;
        }
        assert!(found.contains(&"Coffee in the mountains") && page.corrected, "{typo}: {found:?}");
        assert!(!found.contains(&"A coffin") && !found.contains(&"Coffee of somebody else"), "{typo}: {found:?}");
    }
    let exact = titles.handler.search_contents(call(&owner, ask("coffee"))).await.unwrap().into_inner();
    assert_eq!((exact.contents.len(), exact.corrected), (1, false), "what matches as typed is not mixed with what looks alike");
    let nothing = titles.handler.search_contents(call(&owner, ask("xylophone"))).await.unwrap().into_inner();
    assert!(nothing.contents.is_empty() && !nothing.corrected);
}

async fn words_of_an_edited_or_purged_title_correct_nothing(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Zeppelin").await;
    assert_eq!(titles.search(&owner, "zepelin").await.unwrap(), ["Zeppelin"]);
    let edit = pb::UpdateContentRequest { content_id: content.content_id, title: Some("Airship".into()), ..Default::default() };
    titles.update(&owner, edit).await.unwrap();
    assert!(titles.search(&owner, "zepelin").await.unwrap().is_empty());
    let words: Vec<String> =
        sqlx::query_scalar("SELECT word FROM search_words ORDER BY word").fetch_all(titles.db.pool()).await.unwrap();
    assert_eq!(words, ["airship"]);
}

async fn filters_facets_and_orders_work_on_what_matches(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let contract = "0x5fbdb2315678afecb367f032d93f642f64180aa3";
    let make = |title: &str, tags: &[&str], gated: bool| pb::CreateContentRequest {
        title: title.into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        gate: gated.then(|| nft("eip155:137", contract)),
        ..Default::default()
    };
    for request in [
        make("Cat one", &["pets", "cats"], true),
        make("Cat two", &["pets"], false),
        make("Cat three", &[], true),
        make("Dog", &["pets"], true),
    ] {
        titles.create_with(&owner, request).await.unwrap();
    }
    titles.create_with(&as_account(Role::Creator), make("Cat foreign", &["pets"], true)).await.unwrap();
    let ask = || pb::SearchContentsRequest {
        query: "cat".into(),
        facets: ["status", "tag", "owner", "gate_chain"].map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let page = titles.handler.search_contents(call(&owner, ask())).await.unwrap().into_inner();
    let own = owner.account().unwrap().id.to_string();
    let count = |value: &str, count| pb::FacetValue { value: value.into(), count };
    let facet = |name: &str, values: Vec<pb::FacetValue>| pb::Facet { name: name.into(), values };
    let expected = [
        facet("status", vec![count("waiting", 3)]),
        facet("tag", vec![count("pets", 2), count("cats", 1)]),
        facet("owner", vec![count(&own, 3)]),
        facet("gate_chain", vec![count("eip155:137", 2)]),
    ];
    assert_eq!((page.contents.len(), page.facets.as_slice()), (3, expected.as_slice()));

    let found = async |request: pb::SearchContentsRequest| {
        let page = titles.handler.search_contents(call(&owner, request)).await.unwrap().into_inner();
        page.contents.into_iter().map(|content| content.title).collect::<Vec<_>>()
    };
    assert_eq!(
        found(pb::SearchContentsRequest { order_by: "create_time".into(), ..ask() }).await,
        ["Cat one", "Cat two", "Cat three"]
    );
    assert_eq!(
        found(pb::SearchContentsRequest { order_by: "title desc".into(), ..ask() }).await,
        ["Cat two", "Cat three", "Cat one"]
    );
    assert_eq!(found(pb::SearchContentsRequest { tags: vec!["cats".into()], ..ask() }).await, ["Cat one"]);
    let gated = pb::SearchContentsRequest { gate_contract: contract.into(), order_by: "create_time".into(), ..ask() };
    assert_eq!(found(gated).await, ["Cat one", "Cat three"]);
    assert!(found(pb::SearchContentsRequest { status: "ready".into(), ..ask() }).await.is_empty());
}

async fn the_pages_of_a_search_lose_none_and_repeat_none_corrected_or_not(titles: Fixture) {
    let owner = as_account(Role::Creator);
    for number in 0..25 {
        titles.create(&owner, &format!("Elephant {number}")).await;
    }
    for query in ["elephant", "elefant"] {
        let (mut found, mut page_token) = (BTreeSet::new(), String::new());
        loop {
            let request = pb::SearchContentsRequest { query: query.into(), page_size: 10, page_token, ..Default::default() };
            let page = titles.handler.search_contents(call(&owner, request)).await.unwrap().into_inner();
            assert_eq!(page.corrected, query == "elefant");
            for content in page.contents {
                assert!(found.insert(content.content_id), "a title came twice");
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found.len(), 25, "{query}");
    }
}

support::on_both_engines! {
    search_finds_prefixes_without_accents_in_title_text_and_tags_best_first,
    an_edit_is_found_and_what_it_replaced_is_not,
    what_a_user_types_is_words_and_never_syntax,
    a_mistyped_word_finds_what_looks_alike_when_nothing_matches_as_typed,
    words_of_an_edited_or_purged_title_correct_nothing,
    filters_facets_and_orders_work_on_what_matches,
    the_pages_of_a_search_lose_none_and_repeat_none_corrected_or_not,
}
