//! The steps of the main job.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use streamgate_testkit::{Anvil, PlatformBuilder, Wallet, eventually_every};
use url::Url;

use super::{Outcome, report::Report};
use crate::{
    rest::Rest,
    stage::{playable, settled},
    walk::{Title, whole_title},
};

/// A holder whose token has left may see segments for no longer than this.
const CUT_OFF_BOUND: Duration = Duration::from_secs(30);
/// How often the demo asks for a segment until it is refused.
const ASK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn main_job(video: &Path, platform: PlatformBuilder, report: &mut Report) -> Result<Outcome> {
    let anvil = Anvil::start().await?;
    let node = anvil.node();
    report.done(format!("local EVM node at {}", anvil.url()));

    let (minter, holder, stranger) = (Wallet::dev(0)?, Wallet::dev(1)?, Wallet::dev(2)?);
    let pass = node.deploy_demo_pass(minter.address()).await?;
    report.done(format!("ERC-721 deployed at {}", pass.address()));
    let number = pass.mint(holder.address()).await?;
    report.done(format!("pass {number} minted to the holder {}", holder.checksummed()));

    let mut platform = platform.chain(anvil.chain_id(), anvil.url()).start().await?;
    let processes = platform.process_ids().len();
    report.done(format!(
        "platform of {processes} {} ready at {}",
        if processes == 1 { "process" } else { "processes" },
        platform.url()
    ));
    let edge = Rest::new(&platform.url())?;
    let creator = edge.with_bearer(platform.api_key("creator")?);
    report.done("creator's API key made");

    let content_id = match upload(&creator, video).await? {
        Ok(content_id) => content_id,
        Err(refused) => return Ok(refused),
    };
    report.done(format!("uploaded as {content_id}"));
    let gate = creator.set_gate(&content_id, &pass.gate(anvil.chain_id())).await?;
    report.done(format!("gated, hash {}", gate["gate_hash"].as_str().unwrap_or("?")));

    let Some(content) = wait_until_ready(&creator, &content_id, report).await? else {
        return refusal(&creator.content(&content_id).await?);
    };
    let playback_id = content["playback_ids"][0].as_str().context("the title has no playback id")?.to_owned();

    let segment = play_as_holder(&edge, &holder, &playback_id, &content, report).await?;
    refuse_others(&edge, &stranger, &playback_id, &segment, report).await?;

    pass.transfer(holder.address(), minter.address(), number).await?;
    report.done("pass transferred away");
    cut_off(&edge, &holder, &playback_id, &segment, report).await?;

    ensure!(platform.is_running()?, "the platform ended on the way");
    platform.stop().await?;
    report.done("platform stopped in order");
    Ok(Outcome::Held)
}

/// Sends the file; an edge that refuses it by name ends the demo as a refusal.
async fn upload(creator: &Rest, video: &Path) -> Result<Result<String, Outcome>> {
    let title = video.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let reply = creator.try_upload(video, &title).await?;
    if matches!(reply.status, 400 | 413 | 415 | 422) && !reply.reason().is_empty() {
        let detail = reply.json()?["detail"].as_str().unwrap_or_default().to_owned();
        return Ok(Err(Outcome::Refused { reason: reply.reason(), detail }));
    }
    let sent = reply.success()?.json()?;
    let size = std::fs::metadata(video)?.len();
    ensure!(
        sent["size"].as_str() == Some(&size.to_string()) || sent["size"].as_u64() == Some(size),
        "size {} for {size} bytes",
        sent["size"]
    );
    Ok(Ok(sent["content_id"].as_str().context("the upload's content_id")?.to_owned()))
}

/// Waits for the first segments and then for all; nothing when the file was refused.
async fn wait_until_ready(creator: &Rest, content_id: &str, report: &mut Report) -> Result<Option<Value>> {
    if playable(creator, content_id).await.is_ok() {
        report.done("playable: the first segments are stored");
    }
    let content = settled(creator, content_id).await?;
    if content["status"] != "ready" {
        return Ok(None);
    }
    report.done("ready: every segment is stored");
    Ok(Some(content))
}

fn refusal(content: &Value) -> Result<Outcome> {
    let word = |name: &str| content["error"][name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match (word("reason"), word("detail")) {
        (Some(reason), Some(detail)) => Ok(Outcome::Refused { reason, detail }),
        _ => bail!("the title errored without a reason: {content}"),
    }
}

/// Plays to the last segment of every rendition; gives the address of one segment.
async fn play_as_holder(edge: &Rest, holder: &Wallet, playback_id: &str, content: &Value, report: &mut Report) -> Result<Url> {
    let viewer = edge.sign_in(holder).await?;
    report.done("holder signed in with the wallet");
    let session = viewer.session(playback_id).await?;
    report.done("playback opened");
    // The token in the URL is enough for a player: no other credential is sent.
    let title = whole_title(edge, &session).await?;
    check_lengths(&title, content)?;
    let names: Vec<&str> = title.renditions.iter().map(|rendition| rendition.name.as_str()).collect();
    let kib = title.media_bytes() / 1024;
    report.done(format!("played to the end as HLS and DASH: {}, {} segments, {kib} KiB", names.join(" "), title.segments()));
    let last = title.renditions.first().and_then(|rendition| rendition.playlist.segments.last());
    Ok(last.context("the title has no segment")?.0.clone())
}

/// Every rendition has ended and is as long as the title says.
fn check_lengths(title: &Title, content: &Value) -> Result<()> {
    let announced = &content["duration_ms"];
    let seconds = announced.as_f64().or_else(|| announced.as_str()?.parse().ok()).context("the title's duration")? / 1000.0;
    let mut longest: f64 = 0.0;
    for rendition in &title.renditions {
        ensure!(rendition.playlist.ended, "{} has not ended", rendition.name);
        ensure!(!rendition.segments.is_empty(), "{} has no segment", rendition.name);
        longest = longest.max(rendition.seconds());
    }
    ensure!((longest - seconds).abs() < 0.5, "the title says {seconds} s, its longest rendition has {longest} s");
    Ok(())
}

async fn refuse_others(edge: &Rest, stranger: &Wallet, playback_id: &str, segment: &Url, report: &mut Report) -> Result<()> {
    let outsider = edge.sign_in(stranger).await?;
    let refused = outsider.try_session(playback_id).await?.expect(403)?;
    ensure!(refused.reason() == "gate_not_met", "the stranger was refused with {}", refused.text());
    let unmet = refused.json()?["unmet"].as_array().cloned().unwrap_or_default();
    let unmet = unmet.first().and_then(Value::as_str).context("the refusal does not say what is unmet")?;
    report.done(format!("stranger refused: 403 gate_not_met, \"{unmet}\""));

    edge.try_session(playback_id).await?.expect(401)?;
    let mut bare = segment.clone();
    bare.set_query(None);
    edge.get(bare.as_str()).await?.expect(401)?;
    report.done("anonymous refused: 401 for a session and for a segment");
    Ok(())
}

async fn cut_off(edge: &Rest, holder: &Wallet, playback_id: &str, segment: &Url, report: &mut Report) -> Result<()> {
    let refused = eventually_every(ASK_EVERY, "the holder is cut off", CUT_OFF_BOUND, || async {
        let reply = edge.get(segment.as_str()).await?;
        Ok((reply.status != 200).then_some(reply))
    })
    .await?;
    let refused = refused.expect(403)?;
    report.done(format!("holder cut off: 403 {}", refused.reason()));
    let viewer = edge.sign_in(holder).await?;
    viewer.try_session(playback_id).await?.expect(403)?;
    report.done("and can't open playback again");
    Ok(())
}
