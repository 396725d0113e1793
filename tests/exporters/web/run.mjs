// Runs exported files with onnxruntime-web: `node run.mjs browser|node < JOBS.json > FOUND.json`.
// JOBS is a list of {model: PATH, inputs: {NAME: TENSOR}}, FOUND one of {NAME: TENSOR}; a TENSOR is {type, dims, data: base64}.
import { Buffer } from "node:buffer";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { text } from "node:stream/consumers";

const resolved = createRequire(import.meta.url).resolve("onnxruntime-web");
const DIST = path.dirname(resolved);

// Runs in the page and in node alike, so that it may use nothing from outside.
async function run(ort, jobs) {
  const ARRAYS = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array, uint8: Uint8Array };
  const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const base64 = (array) => btoa(Array.from(array, (byte) => String.fromCharCode(byte)).join(""));
  ort.env.wasm.numThreads = 1;
  const found = [];
  for (const job of jobs) {
    const session = await ort.InferenceSession.create(bytes(job.model), { executionProviders: ["wasm"] });
    const feeds = {};
    for (const [name, { type, dims, data }] of Object.entries(job.inputs)) {
      feeds[name] = new ort.Tensor(type, new ARRAYS[type](bytes(data).buffer), dims);
    }
    const outputs = await session.run(feeds);
    const told = {};
    for (const [name, { type, dims, data }] of Object.entries(outputs)) {
      const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      told[name] = { type, dims: [...dims], data: base64(raw) };
    }
    found.push(told);
    await session.release();
  }
  return found;
}

async function inBrowser(jobs) {
  const { default: chromium } = await import("@sparticuz/chromium");
  const { chromium: playwright } = await import("playwright-core");
  const browser = await playwright.launch({ executablePath: await chromium.executablePath(), args: chromium.args });
  try {
    const page = await browser.newPage();
    const types = { ".mjs": "text/javascript", ".wasm": "application/wasm" };
    await page.route("**/*", async (route) => {
      const name = path.basename(new URL(route.request().url()).pathname);
      const contentType = types[path.extname(name)];
      if (!contentType) return route.fulfill({ contentType: "text/html", body: "<!doctype html>" });
      return route.fulfill({ contentType, body: await readFile(path.join(DIST, name)) });
    });
    await page.goto("http://localhost/");
    const told = { browser: `Chromium ${browser.version()}`, found: null };
    told.found = await page.evaluate(
      async ([source, given]) => {
        const ort = await import("/ort.wasm.min.mjs");
        return new Function(`return ${source}`)()(ort, given);
      },
      [run.toString(), jobs],
    );
    return told;
  } finally {
    await browser.close();
  }
}

async function inNode(jobs) {
  const ort = await import("onnxruntime-web");
  return { browser: `node ${process.version}`, found: await run(ort, jobs) };
}

const jobs = JSON.parse(await text(process.stdin));
for (const job of jobs) job.model = (await readFile(job.model)).toString("base64");
const told = process.argv[2] === "browser" ? await inBrowser(jobs) : await inNode(jobs);
process.stdout.write(JSON.stringify(told));
