// A browser with a wallet in it, for the pages: an EIP-1193 provider announced by EIP-6963 whose requests a real node
// answers. The node holds the keys, so what it signs is signed for real.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1280, height: 800 };

// One JSON-RPC call.
export async function rpc(node, method, params = []) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const answer = await (await fetch(node, { method: "POST", headers: { "content-type": "application/json" }, body })).json();
  if (answer.error) throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
  return answer.result;
}

export async function open() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"] });
}

// A tab whose wallet has `account`, and which notes all that goes wrong in the page.
export async function tab(browser, node, account, viewport) {
  const context = await browser.newContext({ viewport, deviceScaleFactor: 1 });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(error.message));
  // Refused calls are part of the play; anything else that the console complains of is a fault.
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of (401|403|404|503)/.test(message.text())) page.faults.push(message.text());
  });
  await page.exposeFunction("walletRequest", async ({ method, params }) => {
    if (method === "eth_requestAccounts" || method === "eth_accounts") return [account];
    return rpc(node, method, params ?? []);
  });
  await page.addInitScript(() => {
    const provider = { request: (wanted) => window.walletRequest(wanted), on() {}, removeListener() {} };
    const info = { uuid: "350670db-19fa-4704-a166-e52e178b59d2", name: "Test Wallet", rdns: "org.example.wallet", icon: "" };
    const announce = () => dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail: Object.freeze({ info, provider }) }));
    addEventListener("eip6963:requestProvider", announce);
    announce();
  });
  await serveFromDisk(page);
  return page;
}

// While the pages are being worked on they can come from a folder instead of from the binary.
async function serveFromDisk(page) {
  const folder = process.env.STREAMGATE_WEB;
  if (!folder) return;
  await page.route(/\/assets\//, (route) => {
    const name = new URL(route.request().url()).pathname.split("/").pop().replace("hls", "vendor/hls");
    const kind = { js: "text/javascript", css: "text/css", svg: "image/svg+xml" }[name.split(".").pop()];
    return route.fulfill({ contentType: kind, body: readFileSync(`${folder}/${name}`) });
  });
  await page.route(/\/watch\/pbk_|:\d+\/$/, (route) => {
    const name = route.request().url().includes("/watch/") ? "watch.html" : "index.html";
    return route.fulfill({ contentType: "text/html; charset=utf-8", body: readFileSync(`${folder}/${name}`) });
  });
}

// Nothing may stick out to the side, on no screen.
export async function fits(page) {
  return page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);
}

// Taps through the sign-in of the watch page.
export async function signIn(page) {
  await page.getByRole("button", { name: "Connect Test Wallet" }).click();
  await page.getByRole("button", { name: "Sign", exact: true }).click();
}

export async function playing(page, seconds) {
  const reached = (wanted) => document.getElementById("video").currentTime > wanted;
  await page.waitForFunction(reached, seconds, { timeout: 60_000 });
}
