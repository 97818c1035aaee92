// Plays URL to its end in headless Chromium: node play.mjs hls|dash|shaka URL
// Switches to the lowest and the highest level on the way. Ends with 0 only if the
// end was reached, both switches were seen, and no fatal error came.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const LIBRARIES = {
  hls: "hls.js/dist/hls.min.js",
  dash: "dashjs/dist/modern/umd/dash.all.min.js",
  shaka: "shaka-player/dist/shaka-player.compiled.js",
};
const BOUND_MS = 120_000;

const [player, url] = process.argv.slice(2);
if (!(player in LIBRARIES) || !url) {
  console.error("usage: play.mjs hls|dash|shaka URL");
  process.exit(64);
}

const require = createRequire(import.meta.url);
// Some packages do not export the built file, so it is looked up beside their manifest.
const [name, ...rest] = LIBRARIES[player].split("/");
const library = readFileSync(new URL(rest.join("/"), `file://${packageFolder(name)}/`));
const driver = readFileSync(new URL(`${player}.js`, import.meta.url));

function packageFolder(name) {
  for (const folder of require.resolve.paths(name)) {
    try {
      readFileSync(`${folder}/${name}/package.json`);
      return `${folder}/${name}`;
    } catch {
      continue;
    }
  }
  throw new Error(`${name} is not installed: run npm ci`);
}

const page = `<!doctype html><video id="video" muted width="640" height="360"></video>
<script src="/library.js"></script><script src="/driver.js"></script>`;
const server = createServer((request, response) => {
  const files = { "/": ["text/html", page], "/library.js": ["text/javascript", library], "/driver.js": ["text/javascript", driver] };
  const [type, body] = files[request.url] ?? ["text/plain", ""];
  response.writeHead(body ? 200 : 404, { "content-type": type }).end(body);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"] });
let failure = "";
try {
  const tab = await browser.newPage();
  const said = [];
  tab.on("console", (message) => said.push(message.text()));
  tab.on("pageerror", (error) => said.push(`page error: ${error.message}`));
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  await tab.evaluate((address) => window.begin(address), url);
  const ended = () => window.state.fatal || document.getElementById("video").ended;
  await tab.waitForFunction(ended, undefined, { timeout: BOUND_MS }).catch(() => said.push("the end was not reached in time"));
  const seen = await tab.evaluate(() => {
    const video = document.getElementById("video");
    return { ...window.state, ended: video.ended, time: video.currentTime, duration: video.duration, heights: [...window.state.heights] };
  });
  console.log(JSON.stringify({ player, ...seen }));
  const steps = seen.heights.slice(1).map((height, index) => height - seen.heights[index]);
  const up = steps.findIndex((step) => step > 0);
  const upThenDown = up >= 0 && steps.slice(up).some((step) => step < 0);
  if (seen.fatal) failure = `fatal error: ${seen.fatal}`;
  else if (!seen.ended) failure = `stopped at ${seen.time} of ${seen.duration} s: ${said.join("; ")}`;
  else if (!upThenDown) failure = `no switch up and down was seen: ${seen.heights}`;
} finally {
  await browser.close();
  server.close();
}
if (failure) {
  console.error(failure);
  process.exit(1);
}
