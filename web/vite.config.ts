import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  build: { chunkSizeWarningLimit: 1500 },
  // `npm run dev` serves the page with reload; the server beside it answers the rest.
  server: {
    proxy: {
      '/rtc': { target: 'http://localhost:7880', ws: true },
      '/dev': 'http://localhost:7880',
      '/debug': 'http://localhost:7880',
    },
  },
});
