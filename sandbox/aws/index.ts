/** The sandbox's AWS, as its other parts use it. */
export { type AwsControl, awsControl, type CopierSettings, type Fault } from "./control";
export { adminCredentials, adminUser } from "./credentials";
export { awsPartNames, awsParts } from "./parts";
export { type SeededRegion, type SeededWorld, seedAws, seededWorld } from "./seed";
