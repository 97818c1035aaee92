// The form that sets an NFT gate, and the words for a gate.

import { call, make, note } from "./api.js";

let chains = null;

async function knownChains() {
  chains ??= (await call("GET", "/api/v1/web3/supported-chains")).chains.filter((chain) => !chain.retired);
  return chains;
}

export function words(gate) {
  if (!gate || !Object.keys(gate).length) return "Only you can watch. Set a gate to let others in.";
  if (gate.everyone) return "Everybody with the link can watch.";
  if (gate.signed_in) return "Everybody who signs in with a wallet can watch.";
  const nft = gate.erc721 || (gate.all?.rules?.length === 1 && gate.all.rules[0].erc721);
  if (nft) return `Holders of ${nft.min_balance && nft.min_balance !== "1" ? `at least ${nft.min_balance} tokens` : "a token"} of ${nft.contract} on ${nft.chain} can watch.`;
  return "A gate of several rules, set over the API.";
}

// A form for the gate of one title. `onDone` is called with the new gate.
export async function gateForm(title, onDone) {
  const id = title.content_id;
  const known = await knownChains().catch(() => []);
  const now = title.gate?.erc721 || title.gate?.all?.rules?.[0]?.erc721 || {};
  const kind = make("select", { id: `kind-${id}` },
    ...[["erc721", "Holders of an NFT"], ["signed_in", "Anybody with a wallet"], ["everyone", "Everybody"], ["none", "Only me"]]
      .map(([value, text]) => make("option", { value, selected: value in (title.gate || {}) }, text)));
  const chain = make("select", { id: `chain-${id}` },
    ...known.map((c) => make("option", { value: c.chain, selected: c.chain === now.chain }, c.name + (c.configured ? "" : " (no endpoint)"))),
    make("option", { value: "", selected: now.chain && !known.some((c) => c.chain === now.chain) }, "Another chain…"));
  const custom = make("input", { id: `custom-${id}`, inputmode: "numeric", pattern: "[0-9]+", placeholder: "31337", value: (now.chain || "").split(":")[1] || "" });
  const contract = make("input", { id: `contract-${id}`, placeholder: "0x…", pattern: "0x[0-9a-fA-F]{40}", autocomplete: "off", spellcheck: "false", value: now.contract || "" });
  const balance = make("input", { id: `balance-${id}`, type: "number", min: "1", step: "1", value: now.min_balance || "1" });
  const told = make("p", { role: "status", "aria-live": "polite", hidden: true });
  const field = (input, text) => make("div", {}, make("label", { for: input.id }, text), input);
  const customField = field(custom, "Chain number");
  const nft = make("div", { class: "grid" }, field(chain, "Chain"), customField, field(contract, "Contract"), field(balance, "Tokens needed"));
  const arrange = () => {
    nft.hidden = kind.value !== "erc721";
    customField.hidden = chain.value !== "";
    contract.required = !nft.hidden;
    custom.required = !nft.hidden && !customField.hidden;
  };
  kind.addEventListener("change", arrange);
  chain.addEventListener("change", arrange);
  arrange();
  const save = make("button", { type: "submit", class: "main" }, "Save gate");
  return make("form", {
    class: "stack",
    onsubmit: async (event) => {
      event.preventDefault();
      save.disabled = true;
      const leaf = { chain: chain.value || `eip155:${custom.value}`, contract: contract.value.trim(), min_balance: String(balance.value || 1) };
      const gate = { erc721: { erc721: leaf }, signed_in: { signed_in: {} }, everyone: { everyone: {} }, none: {} }[kind.value];
      try {
        const answer = await call("PUT", `/api/v1/contents/${id}/gate`, gate);
        note(told, "Saved.", "good");
        onDone(answer.gate);
      } catch (problem) {
        note(told, problem.advice, "bad");
      }
      save.disabled = false;
    },
  }, field(kind, "Who may watch"), nft, make("div", { class: "row" }, save), told);
}
