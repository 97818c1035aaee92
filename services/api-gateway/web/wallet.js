// Wallets in the browser: EIP-6963 lists them, EIP-1193 is how they are spoken to.

import { Problem, call, fromTokens, setIdentity } from "./api.js";

const found = new Map();
const watchers = new Set();

addEventListener("eip6963:announceProvider", (event) => {
  const { info, provider } = event.detail || {};
  if (!info?.uuid || !provider || found.has(info.uuid)) return;
  found.set(info.uuid, { id: info.uuid, name: info.name, icon: safeIcon(info.icon), provider });
  watchers.forEach((watch) => watch());
});

function safeIcon(icon) {
  return typeof icon === "string" && /^data:image\/(png|svg\+xml|webp|jpeg|gif)[;,]/.test(icon) ? icon : "";
}

// Calls `watch` with the wallets now and whenever one more shows up.
export function watchWallets(watch) {
  const tell = () => watch(wallets());
  watchers.add(tell);
  dispatchEvent(new Event("eip6963:requestProvider"));
  tell();
}

export function wallets() {
  if (found.size) return [...found.values()];
  return window.ethereum ? [{ id: "injected", name: "Browser wallet", icon: "", provider: window.ethereum }] : [];
}

function refusal(error) {
  if (error instanceof Problem) return error;
  const texts = {
    4001: "You declined in the wallet. Nothing was sent; try again when you like.",
    4100: "The wallet has not allowed this page. Unlock it and try again.",
    "-32002": "The wallet is waiting for you: open it and answer its request.",
  };
  return new Problem(-1, { title: texts[error?.code] || `The wallet refused: ${error?.message || "no reason given"}`, reason: "wallet" });
}

// First tap: which account, and a challenge for it, so that the second tap can open the wallet at once.
export async function connect(wallet) {
  try {
    const [address] = await wallet.provider.request({ method: "eth_requestAccounts" });
    if (!address) throw new Problem(-1, { title: "The wallet shared no account. Choose one in it and try again" });
    const chain = Number(BigInt(await wallet.provider.request({ method: "eth_chainId" })));
    return { wallet, address, ...(await challenge(address, chain)) };
  } catch (error) {
    throw refusal(error);
  }
}

async function challenge(address, chain) {
  const query = new URLSearchParams({ address, chain_id: chain, origin: location.origin });
  const answer = await call("GET", `/api/v1/auth/challenge?${query}`);
  return { chain, challenge: answer, ends: Date.parse(answer.expires_at) };
}

// Second tap: signs the challenge and signs in.
export async function sign(connected) {
  try {
    if (connected.ends < Date.now() + 5000) Object.assign(connected, await challenge(connected.address, connected.chain));
    const bytes = new TextEncoder().encode(connected.challenge.message);
    const hex = "0x" + [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const signature = await connected.wallet.provider.request({ method: "personal_sign", params: [hex, connected.address] });
    const { challenge_id } = connected.challenge;
    const known = fromTokens(await call("POST", "/api/v1/auth/login", { challenge_id, signature }));
    setIdentity(known);
    return known;
  } catch (error) {
    // A challenge works once: a failed one must not be tried again.
    connected.ends = 0;
    throw refusal(error);
  }
}
