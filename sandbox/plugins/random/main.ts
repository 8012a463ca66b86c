/** Provider plugin `random`: the program that the engine starts. */
import { serve } from "../provider/serve";
import { provider } from "./provider";

void serve(provider);
