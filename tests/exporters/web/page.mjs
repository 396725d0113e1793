// Opens a page in Chromium and tells what a reader meets: `node page.mjs < JOB.json > FOUND.json`.
// JOB is {page: PATH, views: [{width, media, scheme, shot: PATH or null}], sort: [LABEL OF A TABLE, NAME OF A COLUMN]}.
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

// What is cut off or sticks out: boxes wider than the window, or than what holds them, and texts of a figure outside it.
function outside() {
  const named = (element) => `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 40)}`;
  const found = [], width = document.documentElement.clientWidth;
  for (const element of document.querySelectorAll("body *:not(svg *, script)")) {
    const box = element.getBoundingClientRect();
    const cut = element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== "visible";
    if (box.right > width + 1 || box.left < -1 || cut) found.push(named(element));
  }
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    for (const label of svg.querySelectorAll("text")) {
      const box = label.getBoundingClientRect();
      if (box.right > frame.right + 1 || box.left < frame.left - 1) found.push(`${svg.ariaLabel}: ${named(label)}`);
    }
  }
  const { scrollWidth, clientWidth } = document.documentElement;
  return { scrollWidth, clientWidth, outside: found };
}

async function sorted(page, [table, column]) {
  const at = page.locator(`table[aria-label="${table}"]`);
  const head = at.locator("thead button", { hasText: column });
  const index = await head.evaluate((button) => button.closest("th").cellIndex);
  const read = () => at.locator("tbody tr").evaluateAll((rows, i) => rows.map((row) => Number(row.cells[i].dataset.value)), index);
  const rows = await at.locator("tbody th").allTextContents();
  const told = { rows, before: await read() };
  await head.click();
  told.up = await read();
  await head.click();
  return { ...told, down: await read() };
}

async function saved(page) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("button.save").first().click()]);
  return { name: download.suggestedFilename(), text: await readFile(await download.path(), "utf8") };
}

const { default: chromium } = await import("@sparticuz/chromium");
const { chromium: playwright } = await import("playwright-core");
const job = JSON.parse(await text(process.stdin)), address = pathToFileURL(job.page).href;
const browser = await playwright.launch({ executablePath: await chromium.executablePath(), args: chromium.args });
try {
  const page = await browser.newPage(), told = { errors: [], requests: [], views: [] };
  page.on("console", (message) => told.errors.push(message.text()));
  page.on("pageerror", (error) => told.errors.push(error.message));
  page.on("request", (request) => request.url() !== address && told.requests.push(request.url()));
  for (const { width, media, scheme, shot } of job.views) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ media, colorScheme: scheme });
    await page.goto(address);
    told.views.push(await page.evaluate(outside));
    if (shot) await page.screenshot({ path: shot, fullPage: true });
  }
  await page.setViewportSize({ width: 1200, height: 900 }); // a phone shows no heads of columns
  await page.emulateMedia({ media: "screen" });
  if (job.sort) Object.assign(told, { sorted: await sorted(page, job.sort), saved: await saved(page) });
  told.requests = told.requests.filter((url) => !url.startsWith("data:") && !url.startsWith("blob:"));
  process.stdout.write(JSON.stringify(told));
} finally {
  await browser.close();
}
