/** Provider plugin `aws`: the program that the engine starts. */
import { serve } from "../provider/serve";
import { provider } from "./provider";

void serve(provider);
