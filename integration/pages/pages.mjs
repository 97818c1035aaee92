// Walks through the pages as people do: node pages.mjs EDGE NODE PLAYBACK_ID CONTRACT PASS KEY [FOLDER]
// A stranger is refused; the holder (account 1 of the node) signs in and plays on a phone and on a desktop, and is cut off
// when the pass (number PASS of CONTRACT) moves away; the studio takes KEY. With FOLDER, pictures are kept there.
import { strict as assert } from "node:assert";
import { DESKTOP, PHONE, fits, open, playing, rpc, signIn, tab } from "./browser.mjs";

const [edge, node, playbackId, contract, pass, key, folder] = process.argv.slice(2);
if (!key) {
  console.error("usage: pages.mjs EDGE NODE PLAYBACK_ID CONTRACT PASS KEY [FOLDER]");
  process.exit(64);
}
const CUT_OFF_MS = 60_000;
const [, holder, stranger] = await rpc(node, "eth_accounts");
const browser = await open();

async function picture(page, name) {
  if (folder) await page.screenshot({ path: `${folder}/${name}.png` });
  assert(await fits(page), `${name}: the page is wider than its window`);
}

function clean(page) {
  assert.deepEqual(page.faults, [], "the page complained");
}

const title = (page) => page.locator("#card-title");

async function aStrangerIsRefusedWithTheReason(name, viewport) {
  const page = await tab(browser, node, stranger, viewport);
  await page.goto(`${edge}/watch/${playbackId}`);
  await page.getByRole("button", { name: "Connect Test Wallet" }).waitFor();
  await picture(page, `${name}-1-connect`);
  await page.getByRole("button", { name: "Connect Test Wallet" }).click();
  await page.getByRole("button", { name: "Sign", exact: true }).waitFor();
  await picture(page, `${name}-2-sign`);
  await page.getByRole("button", { name: "Sign", exact: true }).click();
  await page.getByText("This wallet can't watch").waitFor();
  assert((await page.locator("#card-list li").count()) > 0, "nothing says what is unmet");
  await picture(page, `${name}-3-refused`);
  clean(page);
  await page.context().close();
}

async function theHolderPlays(name, viewport) {
  const page = await tab(browser, node, holder, viewport);
  await page.goto(`${edge}/watch/${playbackId}`);
  await signIn(page);
  await playing(page, 2);
  await picture(page, `${name}-4-playing`);
  // The clip is short: it is still playing when the pass moves.
  await page.evaluate(() => { document.getElementById("video").loop = true; });
  return page;
}

async function theHolderIsCutOff(name, page) {
  const word = (text) => text.replace("0x", "").toLowerCase().padStart(64, "0");
  const data = `0x23b872dd${word(holder)}${word(stranger)}${word(BigInt(pass).toString(16))}`;
  await rpc(node, "eth_sendTransaction", [{ from: holder, to: contract, data }]);
  await title(page).filter({ hasText: "Access ended" }).waitFor({ timeout: CUT_OFF_MS });
  assert(await page.locator("#stage").isHidden(), "the picture is still there");
  await picture(page, `${name}-5-cut-off`);
  clean(page);
}

async function theStudioTakesAKey(name, viewport) {
  const page = await tab(browser, node, stranger, viewport);
  await page.goto(`${edge}/`);
  await page.getByRole("button", { name: "Connect Test Wallet" }).waitFor();
  await picture(page, `${name}-6-studio-sign-in`);
  await page.getByText("Use an API key instead").click();
  await page.locator("#key").fill(key);
  await page.getByRole("button", { name: "Use this key" }).click();
  await page.locator("#list li").first().waitFor();
  await page.locator("#list li").first().getByText("Change who may watch").click();
  await picture(page, `${name}-7-studio`);
  clean(page);
  await page.context().close();
}

try {
  for (const [name, viewport] of [["phone", PHONE], ["desktop", DESKTOP]]) {
    await aStrangerIsRefusedWithTheReason(name, viewport);
    await theStudioTakesAKey(name, viewport);
  }
  const phone = await theHolderPlays("phone", PHONE);
  const desktop = await theHolderPlays("desktop", DESKTOP);
  await theHolderIsCutOff("desktop", desktop);
  await title(phone).filter({ hasText: "Access ended" }).waitFor({ timeout: CUT_OFF_MS });
  await picture(phone, "phone-5-cut-off");
  clean(phone);
  console.log("the pages do what they should");
} finally {
  await browser.close();
}
