/** An engine's statistics in the text format that Prometheus scrapes. */

import type { Histogram } from "./histogram.js";
import type { EngineStats } from "./types.js";

type Labels = Record<string, string>;
interface Sample {
  value: number;
  labels?: Labels;
}

export function metricsText(stats: EngineStats, histograms: { step: Histogram; firstToken: Histogram }): string {
  const { requests, pages, tokens, steps, embeddings } = stats;
  const ms = (milliseconds: number): number => milliseconds / 1000;
  return [
    gauge("himap_requests", "Requests by state.", [
      { labels: { state: "waiting" }, value: requests.waiting },
      { labels: { state: "preparing" }, value: requests.preparing },
      { labels: { state: "ready" }, value: requests.ready },
      { labels: { state: "running" }, value: requests.running },
    ]),
    counter("himap_requests_ended_total", "Requests that have ended, by outcome: done, or an error's code.", [
      { labels: { outcome: "done" }, value: requests.ended.done ?? 0 },
      ...Object.entries(requests.ended).filter(([outcome]) => outcome !== "done").sort().map(([outcome, value]) => ({ labels: { outcome }, value })),
    ]),
    gauge("himap_sequences", "Sequences that take part in steps.", stats.sequences),
    gauge("himap_kv_pages", "Pages of the KV pool.", pages.total),
    gauge("himap_kv_pages_used", "Pages of the KV pool in use.", pages.used),
    gauge("himap_kv_pages_peak", "Most pages of the KV pool that were in use at once.", pages.peak),
    gauge("himap_kv_page_bytes", "Bytes of one page of the KV pool.", pages.bytes),
    counter("himap_tokens_generated_total", "Tokens produced by generate.", tokens.generated),
    gauge("himap_tokens_per_second", "Tokens produced by generate, each second of the last ten.", tokens.perSecond),
    counter("himap_prefill_rows_total", "Rows of all prompts that were run.", tokens.prefillRows),
    counter("himap_image_tokens_seen_total", "Image tokens of the prompts that were started.", tokens.imageSeen),
    counter("himap_image_tokens_kept_total", "Image tokens that the last layers keep.", tokens.imageKept),
    counter("himap_engine_seconds_total", "Seconds of the engine, by what it did; idle: between steps though requests were there.", [
      { labels: { phase: "vision" }, value: ms(steps.vision) },
      { labels: { phase: "prefill" }, value: ms(steps.prefill) },
      { labels: { phase: "decode" }, value: ms(steps.decode) },
      { labels: { phase: "idle" }, value: ms(steps.idle) },
    ]),
    histogram("himap_step_seconds", "Seconds of one step of the engine, which may be many passes.", histograms.step),
    histogram("himap_time_to_first_token_seconds", "Seconds from a generate to its first token.", histograms.firstToken),
    counter("himap_embedding_cache_hits_total", "Pictures that did not have to be encoded.", embeddings.hits),
    counter("himap_embedding_cache_misses_total", "Pictures that had to be encoded.", embeddings.misses),
    gauge("himap_embedding_cache_bytes", "Bytes of picture embeddings that are remembered.", embeddings.bytes),
    gauge("himap_embedding_cache_capacity_bytes", "Most bytes of picture embeddings that are remembered.", embeddings.capacity),
  ].join("");
}

const gauge = (name: string, help: string, samples: number | Sample[]): string => family(name, help, "gauge", samples);
const counter = (name: string, help: string, samples: number | Sample[]): string => family(name, help, "counter", samples);

function family(name: string, help: string, type: "gauge" | "counter", samples: number | Sample[]): string {
  const lines = typeof samples === "number" ? [{ value: samples }] : samples;
  return head(name, help, type) + lines.map((sample) => line(name, sample)).join("");
}

function histogram(name: string, help: string, { bounds, cumulative, sum }: Histogram): string {
  return [
    head(name, help, "histogram"),
    ...[...bounds, "+Inf"].map((le, i) => line(`${name}_bucket`, { labels: { le: `${le}` }, value: cumulative[i]! })),
    line(`${name}_sum`, { value: sum }),
    line(`${name}_count`, { value: cumulative.at(-1)! }),
  ].join("");
}

const head = (name: string, help: string, type: string): string => `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;

/** Labels are names of ours, without a character that would have to be escaped. */
function line(name: string, { value, labels }: Sample): string {
  const inner = Object.entries(labels ?? {}).map(([label, text]) => `${label}="${text}"`).join(",");
  return `${name}${inner && `{${inner}}`} ${value}\n`;
}
