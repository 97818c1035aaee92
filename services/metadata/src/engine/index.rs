//! What titles are found by beside their ids: words, tags, gates.

use std::collections::BTreeSet;

use streamgate_core::gate::{Gate, Leaf};
use streamgate_store::Transaction;

use super::{
    Content, Engine, StoredGate, rows,
    text::{Words, fold},
};
use crate::Error;

/// Version of what is written here. A task brings titles of older versions up to date.
pub(super) const VERSION: i64 = 1;
/// Titles brought up to date in one change: few enough that nobody waits long behind it.
const BATCH: i64 = 100;

impl Engine {
    /// Writes everything by which `content` is found, in place of what was there.
    pub(super) async fn index(&self, tx: &mut Transaction, content: &Content) -> Result<(), Error> {
        let id = content.content_id.as_str();
        let words = Words::of(content);
        sqlx::query("UPDATE contents SET title_key = $2, indexed = $3 WHERE content_id = $1")
            .bind(id)
            .bind(words.title.join(" "))
            .bind(VERSION)
            .execute(&mut **tx)
            .await?;
        clear(tx, id).await?;
        if content.delete_ms.is_some() {
            return self.text.remove(tx, id).await;
        }
        for tag in tag_keys(&content.tags) {
            let insert = "INSERT INTO content_tags (tag, content_id, owner) VALUES ($1, $2, $3)";
            sqlx::query(insert).bind(tag).bind(id).bind(&content.owner).execute(&mut **tx).await?;
        }
        for (chain, contract) in gate_keys(content.gate.as_ref())? {
            let insert = "INSERT INTO content_gates (chain, contract, content_id, owner) VALUES ($1, $2, $3, $4)";
            sqlx::query(insert).bind(chain).bind(contract).bind(id).bind(&content.owner).execute(&mut **tx).await?;
        }
        self.text.put(tx, id, &words).await?;
        self.text.learn(tx, &words.vocabulary()).await
    }

    /// Writes the index again after an edit, and forgets words that were only in what it replaced.
    pub(super) async fn reindex(&self, tx: &mut Transaction, before: &Content, after: &Content) -> Result<(), Error> {
        self.index(tx, after).await?;
        let gone = &Words::of(before).vocabulary() - &Words::of(after).vocabulary();
        self.text.forget(tx, &gone).await
    }

    /// Brings titles of older versions up to date, until there are none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn index_all(&self) -> Result<u64, Error> {
        let mut done = 0;
        loop {
            let mut tx = self.db.begin().await?;
            let ids: Vec<String> =
                sqlx::query_scalar("SELECT content_id FROM contents WHERE indexed < $1 ORDER BY indexed, content_id LIMIT $2")
                    .bind(VERSION)
                    .bind(BATCH)
                    .fetch_all(&mut *tx)
                    .await?;
            if ids.is_empty() {
                return Ok(done);
            }
            for id in &ids {
                let content = rows::find_text(&mut tx, id).await?;
                self.index(&mut tx, &content).await?;
            }
            tx.commit().await?;
            done += ids.len() as u64;
        }
    }
}

async fn clear(tx: &mut Transaction, id: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM content_tags WHERE content_id = $1").bind(id).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM content_gates WHERE content_id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// A tag as it is compared: its words, or itself when it has none.
pub(crate) fn tag_key(tag: &str) -> String {
    let words = fold::words(tag).join(" ");
    if words.is_empty() { tag.to_owned() } else { words }
}

fn tag_keys(tags: &[String]) -> BTreeSet<String> {
    tags.iter().map(|tag| tag_key(tag)).collect()
}

/// Chain and contract of what a gate asks for, and each of the two alone.
fn gate_keys(gate: Option<&StoredGate>) -> Result<BTreeSet<(String, String)>, Error> {
    let Some(gate) = gate.map(StoredGate::gate).transpose()? else { return Ok(BTreeSet::new()) };
    Ok(keys_of(&gate))
}

fn keys_of(gate: &Gate) -> BTreeSet<(String, String)> {
    let mut keys = BTreeSet::new();
    for leaf in gate.leaves() {
        if let Some(chain) = leaf.chain() {
            keys.insert((chain.to_string(), String::new()));
            if let Some(contract) = contract_of(leaf) {
                keys.insert((chain.to_string(), contract.clone()));
                keys.insert((String::new(), contract));
            }
        }
    }
    keys
}

fn contract_of(leaf: &Leaf) -> Option<String> {
    match leaf {
        Leaf::Erc721Balance { contract, .. }
        | Leaf::Erc721Token { contract, .. }
        | Leaf::Erc1155 { contract, .. }
        | Leaf::Erc20 { contract, .. } => Some(contract.to_string().to_ascii_lowercase()),
        Leaf::Native { .. } | Leaf::Wallets(_) | Leaf::TimeWindow { .. } | Leaf::SignedIn | Leaf::Everyone => None,
    }
}
