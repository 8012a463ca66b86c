/** Records behind its log's tail at which a processor counts as lagging: `npm run status` and an alert tell of it. */
export const laggingRecords = 1000;
