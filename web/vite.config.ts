import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const OUT = join(import.meta.dirname, "../natural_video_llm/web_dist");
const VISION = join(import.meta.dirname, "node_modules/@mediapipe/tasks-vision");

/** The one WebAssembly build that every browser with a camera of the last years takes. */
function faceRuntime(): Plugin {
  return {
    name: "face-runtime",
    apply: "build",
    closeBundle() {
      mkdirSync(join(OUT, "wasm"), { recursive: true });
      for (const name of ["vision_wasm_internal.js", "vision_wasm_internal.wasm"]) {
        copyFileSync(join(VISION, "wasm", name), join(OUT, "wasm", name));
      }
    },
  };
}

/** tasks-vision 1.1.0 posts usage statistics to its maker once a minute. Here nothing leaves: the call is cut out. */
function withoutTelemetry(): Plugin {
  const cuts: [string, string][] = [
    ['"https://odml.pa.googleapis.com/v1/log"', '""'],
    ["await fetch(t.url,", "await Promise.reject(t.url,"],
  ];
  return {
    name: "without-telemetry",
    transform(code, id) {
      if (!id.includes("tasks-vision") || !id.includes("vision_bundle")) return null;
      for (const [found, put] of cuts) {
        const parts = code.split(found);
        if (parts.length !== 2)
          throw new Error(`tasks-vision has changed: ${found} stands there ${parts.length - 1} times`);
        code = parts.join(put);
      }
      return { code, map: null };
    },
  };
}

export default defineConfig({
  plugins: [react(), faceRuntime()],
  worker: { format: "iife", plugins: () => [withoutTelemetry()] },
  build: { outDir: OUT, emptyOutDir: true, assetsDir: "app", target: "es2022", modulePreload: { polyfill: false } },
});
